"""Where the project's files stand."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(os.environ.get("MEDLIB_ROOT", Path(__file__).resolve().parents[1]))
MANIFESTS = ROOT / "data_manifests"
REFERENCE_RUNS = ROOT / "reference_runs"
BUILD = ROOT / "_build"
DATA = BUILD / "data"  # cohorts made or fetched; never committed
RUNS = BUILD / "runs"  # one folder a training run
