"""On what a chapter was executed."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

VERSIONS_SHOWN = (
    "torch",
    "lightning",
    "segmentation-models-pytorch",
    "albumentations",
    "numpy",
    "scikit-image",
    "pydicom",
)


def versions() -> dict[str, str]:
    """Return the versions that a result depends on most."""
    return {"python": platform.python_version(), **{name: version(name) for name in VERSIONS_SHOWN}}


@cache
def device_name() -> str:
    """Return the processor, its cores, and the graphics cards if there are any."""
    cores = os.cpu_count() or 1
    name = f"{_processor()}, {cores} core{'s' if cores > 1 else ''}"
    cards = _lines("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return f"{name}; {', '.join(cards)}" if cards else name


def _processor() -> str:
    if sys.platform == "darwin":
        return _lines("sysctl", "-n", "machdep.cpu.brand_string")[0]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (found := re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())):
        return found[1].strip()
    return platform.machine()


def _lines(program: str, *arguments: str) -> list[str]:
    """Return what a program prints; nothing where it is missing or fails."""
    if not shutil.which(program):
        return []
    answer = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    return answer.stdout.splitlines() if answer.returncode == 0 else []
