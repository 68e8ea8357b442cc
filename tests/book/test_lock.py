"""pyproject.toml, requirements.lock and environment.yml name one set of packages."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from medlib import paths

LOCK = (paths.ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
LOCKED = ("book", "dev")
DIRECT = [
    Requirement(line)
    for lines in (PROJECT["dependencies"], *map(PROJECT["optional-dependencies"].get, LOCKED))
    for line in lines
]


def pins(python, platform):
    """Name -> version of what the lock installs on one machine."""
    environment = default_environment() | {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": platform,
        "platform_system": {"linux": "Linux", "darwin": "Darwin"}[platform],
        "platform_machine": {"linux": "x86_64", "darwin": "arm64"}[platform],
    }
    found = {}
    for line in LOCK.splitlines():
        if re.match(r"[A-Za-z0-9]", line):
            requirement = Requirement(line.rstrip(" \\"))
            if requirement.marker is None or requirement.marker.evaluate(environment):
                name = canonicalize_name(requirement.name)
                assert name not in found, f"two pins of {name} apply"
                [pin] = requirement.specifier
                assert pin.operator == "=="
                found[name] = pin.version
    return found


@pytest.mark.parametrize("platform", ["linux", "darwin"])
@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_every_direct_dependency_is_pinned_to_a_version_it_allows(python, platform):
    pinned = pins(python, platform)
    for requirement in DIRECT:
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} is not in requirements.lock; run make lock"
        assert requirement.specifier.contains(pinned[name], prereleases=True), name


def test_the_lock_has_hashes_and_no_addresses():
    blocks = re.split(r"\n(?=[A-Za-z0-9])", LOCK)
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in LOCK
    assert "--index-url" not in LOCK
    assert "--find-links" not in LOCK


def test_conda_installs_the_same_lock():
    environment = yaml.safe_load((paths.ROOT / "environment.yml").read_text())
    [python] = [d for d in environment["dependencies"] if str(d).startswith("python=")]
    [through_pip] = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert through_pip == ["-r requirements.lock"]
    version = python.removeprefix("python=")
    requires = Requirement(f"python{PROJECT['requires-python']}")
    assert requires.specifier.contains(f"{version}.0")
    assert version in ("3.11", "3.12")
