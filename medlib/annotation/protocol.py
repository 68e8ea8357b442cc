"""The annotation protocol: rules for readers and numbers for checks, from one file.

Its sentences take their numbers from its own fields, so that what a reader is told and what a file
is checked against cannot part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from medlib.annotation.lidc import RATINGS
from medlib.errors import DataError, first_fault
from medlib.paths import MANIFESTS

PROTOCOL = MANIFESTS / "annotation_protocol.json"

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]


class Record(BaseModel):
    """What stands in a file of ours: every field known, none to change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LesionRule(Record):
    """What is outlined and what is not."""

    min_axial_diameter_mm: Positive
    is_: Text = Field(alias="is")
    is_not: tuple[Text, ...]


class WindowRule(Record):
    """A display window in HU."""

    center_hu: float
    width_hu: Positive


class DisplayRule(Record):
    """How the images are looked at."""

    lung: WindowRule
    border: WindowRule
    how: Text


class LineRule(Record):
    """How a line is drawn, and what tells a slip."""

    min_points: Annotated[int, Field(ge=3)]
    max_gap_mm: Positive  # between the two ends of a line that counts as closed
    min_voxels: Count
    max_pieces: Count
    min_share_in_lung: Share  # of a mask's voxels inside the lung field
    one_slice_up_to_slices: Positive  # diameter, in slice distances, from which one is too few
    where: Text
    how: Text
    one_slice: Text
    too_small: Text


class DrawRule(Record):
    """One kind of density, or something at or in the lesion, and where the line goes."""

    name: Text
    looks: str = ""
    draw: Text


class ReadingRule(Record):
    """Who reads, and how often."""

    readers_per_case: Count
    reference_readers: Count
    how: tuple[Text, ...]


class Gate(Record):
    """Least agreement of two readers before somebody else has to look."""

    below_mm: Positive | None  # diameter; None for all that are larger
    min_dice: Share


class EscalationRule(Record):
    """When a further reader decides, and how."""

    when: tuple[Text, ...]
    then: Text


class TrainingRule(Record):
    """What a new reader passes first."""

    cases: Count
    lesion_free_cases: Count
    min_sensitivity: Share
    max_false_marks_per_case: Positive
    min_mean_dice: Share
    repeat_after_days: Count
    how: Text


class Protocol(Record):
    """The whole protocol. Sentences may hold fields in braces: ``{line.min_voxels}``."""

    name: Text
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    lesion: LesionRule
    display: DisplayRule
    line: LineRule
    densities: tuple[DrawRule, ...]
    structures: tuple[DrawRule, ...]
    reading: ReadingRule
    ratings: Mapping[str, tuple[int, int]]
    gates: tuple[Gate, ...]
    escalation: EscalationRule
    training: TrainingRule
    roles: Mapping[str, Text]

    @model_validator(mode="after")
    def _hangs_together(self) -> Protocol:
        limits = [gate.below_mm for gate in self.gates]
        sizes = [limit for limit in limits if limit is not None]
        if limits != [*sorted(set(sizes)), None]:
            raise ValueError("gates must ascend in below_mm and end with null")
        if set(self.ratings) != set(RATINGS):
            raise ValueError(f"ratings must be {', '.join(RATINGS)}")
        if self.reading.readers_per_case < self.reading.reference_readers:
            raise ValueError("readers_per_case must not be below reference_readers")
        self.guide()
        return self

    def min_dice(self, diameter_mm: float) -> float:
        """Return the gate for lesions of a diameter."""
        return next(
            gate.min_dice
            for gate in self.gates
            if gate.below_mm is None or diameter_mm < gate.below_mm
        )

    def guide(self) -> dict[str, str]:
        """Write the guide as a new reader gets it: Markdown by heading, in reading order."""
        line = self.line
        densities = [f"**{d.name}** ({d.looks}): {d.draw}" for d in self.densities]
        structures = [f"**{_capital(s.name)}**: {s.draw}" for s in self.structures]
        scales = [f"{r.replace('_', ' ')} ({a} to {b})" for r, (a, b) in self.ratings.items()]
        sections = {
            "What to outline": self.lesion.is_,
            "What not to outline": _bullets(self.lesion.is_not),
            "How to look": self.display.how,
            "Where the line runs": f"**{line.where}** {line.how} {line.one_slice} {line.too_small}",
            "Density": _bullets(densities),
            "What the lesion touches or holds": _bullets(structures),
            "Ratings": f"Each reader rates each lesion: {', '.join(scales)}. "
            "Each is an impression from this one CT. None is a diagnosis.",
            "Who reads": _bullets(self.reading.how),
            "When to escalate": f"{_bullets(self.escalation.when)}\n\n"
            f"Gates, least 3D Dice of two readers: {self._gates()}.\n\n"
            f"{self.escalation.then}",
            "Before the first real case": self.training.how,
        }
        return {heading: self._filled(text) for heading, text in sections.items()}

    def _gates(self) -> str:
        limits = [f"{gate.below_mm:g}" for gate in self.gates[:-1]]
        sizes = [f"below {limit} mm" for limit in limits[:1]]
        sizes += [f"{low} to {high} mm" for low, high in pairwise(limits)]
        sizes += [f"{['0', *limits][-1]} mm and more"]
        pairs = zip(sizes, self.gates, strict=True)
        return "; ".join(f"{size}: {gate.min_dice:.2f}" for size, gate in pairs)

    def _filled(self, text: str) -> str:
        """Fill a text with the protocol's own numbers."""
        try:
            return text.format(**dict(self))
        except (AttributeError, KeyError, IndexError) as error:
            raise ValueError(f"{text!r} names no field of the protocol ({error})") from None


def _capital(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}"


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {_capital(item).removesuffix('.')}." for item in items)


def read_protocol(path: Path) -> Protocol:
    """Read and check a protocol; DataError if the file is missing or not a whole one."""
    try:
        return Protocol.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{path}: the protocol cannot be read ({error.strerror}); restore it from the "
            "repository"
        ) from error
    except ValidationError as error:
        raise DataError(f"{path}: not a protocol ({first_fault(error)}); mend the file") from None


@cache
def default_protocol() -> Protocol:
    """Return the project's protocol."""
    return read_protocol(PROTOCOL)
