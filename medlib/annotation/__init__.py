"""What readers drew: outlines to masks, agreement, the reference standard, formats, revisions."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
