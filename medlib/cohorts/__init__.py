"""Patients from anywhere as one `Case`: phantom, volumes of interest, whole scans, own folders."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
