"""Between files and CT volumes in Hounsfield units and millimetres."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
