"""Every figure the book quotes is a record: computed by a cell, stored, and shown through glue.

A chapter calls `record("sensitivity", 0.82, 0.70, 0.91, n=8)` and its prose shows the figure by
``{glue:text}`sensitivity` ``. The same output carries the record itself, from which the builder
writes ``_build/html/evidence.json``: what the page says and what the file says cannot differ.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from IPython.display import publish_display_data

from medlib import paths
from medlib.errors import BookError

EVIDENCE_MIME = "application/vnd.medlib.evidence+json"
SCRAPBOOK = "scrapbook"  # the metadata in which myst-nb looks for glue
GLUE_PREFIX = "application/papermill.record/"  # outputs so named are found by myst-nb, not shown
CHAPTER = "MEDLIB_CHAPTER"  # set by the builder for each kernel
EVIDENCE_FILE = "MEDLIB_EVIDENCE"  # an evidence.json to cite from instead of executed chapters

SUFFIXES = ("full", "interval", "n")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
UNDEFINED = "undefined"
NO_BREAK_SPACE = "\u00a0"
MINUS = "\u2212"


@runtime_checkable
class HasInterval(Protocol):
    """An estimate with its interval, such as `medlib.risk.intervals.Estimate`."""

    value: float
    low: float
    high: float
    n: int
    unit: str
    method: str


@dataclass(frozen=True)
class Record:
    """One figure the book quotes; `record` says what its fields mean."""

    name: str
    value: float | None  # None is undefined
    low: float | None = None
    high: float | None = None
    n: int | None = None
    unit: str = ""
    method: str = ""
    digits: int = 2
    has_interval: bool = False  # one that was given may still be undefined
    chapter: str = ""

    def texts(self) -> dict[str, str]:
        """Return what the page shows, by glue key.

        ``name`` -> ``"0.82"``; ``name.full`` -> ``"0.82 (0.70 to 0.91)"``; with an interval
        ``name.interval`` -> ``"0.70 to 0.91"``; with a count ``name.n`` -> ``"8"``.
        """
        unit = f"{NO_BREAK_SPACE}{self.unit}" if self.unit else ""
        value = UNDEFINED if self.value is None else self._number(self.value) + unit
        texts = {self.name: value, f"{self.name}.full": value}
        if self.has_interval:
            interval, inside = UNDEFINED, f"interval {UNDEFINED}"
            if self.low is not None and self.high is not None:
                inside = f"{self._number(self.low)} to {self._number(self.high)}"
                interval = inside + unit
            texts[f"{self.name}.interval"] = interval
            texts[f"{self.name}.full"] = f"{value} ({inside})"
        if self.n is not None:
            texts[f"{self.name}.n"] = f"{self.n:,}"
        return texts

    def _number(self, number: float) -> str:
        return f"{number:z,.{self.digits}f}".replace("-", MINUS)


FIELDS = ("name", "value", "low", "high", "n", "unit", "method", "chapter")


def record(
    name: str,
    value: float | HasInterval,
    low: float | None = None,
    high: float | None = None,
    n: int | None = None,
    unit: str = "",
    method: str = "",
    digits: int = 2,
) -> None:
    """Publish a figure that prose shows by glue and that ``evidence.json`` stores.

    Parameters
    ----------
    name : str
        Key, unique over the book; letters, digits, ``_``, ``-`` and dots. Prose shows
        ``{glue:text}`name` `` (value), ``name.full`` (value and interval), ``name.interval``
        and ``name.n``.
    value : float or estimate
        The figure, or an object with ``value, low, high, n, unit, method`` such as
        `medlib.risk.intervals.Estimate`. NaN is shown as "undefined" and stored as null. A whole
        number given as ``int`` is shown without decimals.
    low, high : float, optional
        Interval, in the unit of the value.
    n : int, optional
        How many units the figure rests on.
    unit : str
        Shown after the value. A figure in percent is given in percent: ``record("x", 22.5,
        unit="%")`` shows "22.5 %".
    method : str
        How it was computed, for people: ``"patient-level bootstrap, 1000 resamples"``.
    digits : int
        Decimals shown; the stored value keeps them all.

    Raises
    ------
    BookError
        If the name cannot be a glue key.
    """
    if isinstance(value, HasInterval):
        estimate = value
        value, low, high = estimate.value, estimate.low, estimate.high
        n = estimate.n if n is None else n
        unit, method = unit or estimate.unit, method or estimate.method
    if not NAME.fullmatch(name) or name.rsplit(".", 1)[-1] in SUFFIXES:
        raise BookError(
            f"evidence name {name!r} cannot be a key; use letters, digits, '_', '-' and dots, "
            f"and none of {', '.join(SUFFIXES)} as the last part"
        )
    found = Record(
        name,
        _finite(value),
        _finite(low),
        _finite(high),
        n=None if n is None else int(n),
        unit=unit,
        method=method,
        digits=0 if isinstance(value, Integral) else digits,
        has_interval=low is not None and high is not None,
        chapter=os.environ.get(CHAPTER, ""),
    )
    _publish(found, cited=False)


def cite(*names: str) -> None:
    """Show figures of earlier chapters in this chapter's prose.

    They are read from the executed chapters, or from the ``evidence.json`` that the environment
    variable ``MEDLIB_EVIDENCE`` names, and can then be glued as if they had been recorded here.

    Raises
    ------
    BookError
        If a figure is not there; the message says which chapter has to run.
    """
    known = {found.name: found for found in stored_records()}
    for name in names:
        if name not in known:
            raise BookError(
                f"no executed chapter has recorded {name!r}; run the chapter that records it "
                "(python -m book build runs all) and name it in this chapter's 'needs'"
            )
        _publish(known[name], cited=True)


def stored_records() -> list[Record]:
    """Return every record of the executed chapters (or of ``MEDLIB_EVIDENCE``)."""
    if file := os.environ.get(EVIDENCE_FILE):
        items = json.loads(Path(file).read_text(encoding="utf-8"))
        return [Record(**item, has_interval=item["low"] is not None) for item in items]
    return records_in(paths.BUILD / "executed")


def records_in(executed: Path) -> list[Record]:
    """Return what the chapters of a folder of executed ones recorded, in their order."""
    return [found for path in sorted(executed.glob("*.ipynb")) for found in notebook_records(path)]


def as_rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Return records as ``evidence.json`` holds them: the documented fields, sorted by name."""
    rows = [{field: getattr(found, field) for field in FIELDS} for found in records]
    return sorted(rows, key=lambda row: str(row["name"]))


def notebook_records(path: Path) -> Iterator[Record]:
    """Yield the records that the cells of one executed notebook computed."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if found := output.get("data", {}).get(EVIDENCE_MIME):
                yield Record(**{**found, "chapter": found["chapter"] or path.stem})


def _finite(number: float | None) -> float | None:
    if number is None or not math.isfinite(number):
        return None
    return int(number) if isinstance(number, Integral) else float(number)


def _publish(found: Record, *, cited: bool) -> None:
    """Publish one output a glue key; the first of a computed figure carries the record."""
    for key, text in found.texts().items():
        data: dict[str, Any] = {f"{GLUE_PREFIX}text/plain": repr(text)}
        if key == found.name and not cited:
            data[EVIDENCE_MIME] = asdict(found)
        metadata: dict[str, Any] = {SCRAPBOOK: {"name": key, "mime_prefix": GLUE_PREFIX}}
        if cited:
            metadata["medlib"] = {"cites": found.chapter}
        publish_display_data(data, metadata)
