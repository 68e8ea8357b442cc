"""A chest CT phantom in HU and mm: synthetic anatomy and scanners, real readers' lesions.

No image of a person went into it. `draw_anatomy`, `insert_lesions`, `acquire`: three steps.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
