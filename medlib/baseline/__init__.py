"""A network is trained on crops, kept as a run, and asked for candidates in a whole scan."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
