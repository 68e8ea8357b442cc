"""What a human gets to see first, and what becomes of the answer: report, queue, decisions."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
