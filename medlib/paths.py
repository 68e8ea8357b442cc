"""Where the project's files stand: in a checkout, or inside an installed package."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_IS_CHECKOUT = (_PACKAGE.parent / "data_manifests").is_dir()

ROOT = Path(os.environ.get("MEDLIB_ROOT", _PACKAGE.parent if _IS_CHECKOUT else Path.cwd()))
# A wheel carries the manifests and the shipped model in the package.
_CARRIED = ROOT if (ROOT / "data_manifests").is_dir() else _PACKAGE
MANIFESTS = _CARRIED / "data_manifests"
REFERENCE_RUNS = _CARRIED / "reference_runs"
BUILD = ROOT / "_build"
DATA = BUILD / "data"  # cohorts made or fetched; never committed
RUNS = BUILD / "runs"  # one folder a training run
