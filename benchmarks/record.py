"""Writing a result, with the machine that its figures hang on."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def machine(*packages: str) -> dict[str, object]:
    """Say what the figures hang on: processor, cores, load, and the versions of packages."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(": ")[2] if names else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: found for name in packages if (found := _version(name))},
        "load": round(os.getloadavg()[0], 1),  # of the last minute: others may use the machine
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def write(result: dict[str, object], path: Path) -> None:
    """Write a result as JSON, beside its place and then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    beside.replace(path)
    print(f"written: {path}")


def place(out: Path | None, stored: Path, *, as_stored: bool) -> Path | None:
    """Return where a result goes: where it was asked to, or to its place in the tree.

    A trial, with other options than those of the stored result, takes no place by itself.
    """
    if out is None and not as_stored:
        print("not stored: with other options than the defaults, name a file with --out")
        return None
    return out or stored
