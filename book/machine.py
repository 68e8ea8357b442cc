"""On what a chapter was executed."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
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
    found = {"python": platform.python_version()}
    for name in VERSIONS_SHOWN:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def device_name() -> str:
    """Return the processor, its cores, and the graphics card if there is one."""
    cores = os.cpu_count() or 1
    name = f"{_processor()}, {cores} core{'s' if cores > 1 else ''}"
    if not (nvidia_smi := shutil.which("nvidia-smi")):
        return name
    query = [nvidia_smi, "--query-gpu=name", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    cards = [line.strip() for line in answer.stdout.splitlines() if line.strip()]
    return f"{name}; {', '.join(cards)}" if answer.returncode == 0 and cards else name


def _processor() -> str:
    if sys.platform == "darwin":
        query = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (found := re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())):
        return found[1].strip()
    return platform.machine()
