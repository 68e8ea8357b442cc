"""Errors for people: what was found, what was expected, what to do, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class MedlibError(Exception):
    """A fault that the user can mend. The command line prints it in one line and exits with 2."""


class InputError(MedlibError):
    """The images given cannot be read safely."""


class DataError(MedlibError):
    """A cohort, manifest or checksum is not what it should be."""


class OverlapError(MedlibError):
    """A patient stands on both sides of a split."""


class RunError(MedlibError):
    """A run folder is missing, incomplete or made from other inputs."""


class BookError(MedlibError):
    """A chapter failed, or the built book breaks one of its rules."""


def first_fault(error: ValidationError) -> str:
    """Say in a few words where a record is wrong, and what is expected there."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'as a whole'}: {first['msg']}"
