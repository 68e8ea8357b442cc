"""What a miss costs: candidates against lesions, metrics with intervals, operating points.

A run is judged by `evaluated_run`; on any other cohort by `medlib evaluate`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
