"""Second Reader: a lung lesion segmentation assistant for research, and the book that judges it.

The rooms of the package bear the names of the book's chapters. Each has a door, its
``__init__.pyi``: the names that others use. They are imported when first used, so that
``import medlib`` stays light.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
