from .review.priority import review_priority as review_priority
from .risk.summary import risk_summary as risk_summary
from .scope import MedicalProject as MedicalProject

__version__: str
