"""Second Reader: a lung lesion segmentation assistant for research, and the book that judges it.

The rooms of the package bear the names of the book's chapters. The three names below stand at the
door; they are imported when first used, so that ``import medlib`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medlib.review.priority import review_priority
    from medlib.risk.summary import risk_summary
    from medlib.scope import MedicalProject

__version__ = "0.1.0"
__all__ = ["MedicalProject", "review_priority", "risk_summary"]

_HOMES = {
    "MedicalProject": "medlib.scope",
    "review_priority": "medlib.review.priority",
    "risk_summary": "medlib.risk.summary",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medlib' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
