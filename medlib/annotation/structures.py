"""Which structures of a file are lesions, which were asked for, and what they are called.

Here a structure is called ``Lesion 2 (GTV-1), reader 1`` or ``Lesion 1, algorithm``; what is no
lesion, and was asked for, ``Structure 3 (Heart), reader 1``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medlib.annotation.drawings import Annotation, Author, Code, LesionMask
from medlib.errors import InputError

# SNOMED CT. "Nodule" is what is seen; a code for a neoplasm would be a diagnosis.
ABNORMAL: Code = ("49755003", "SCT", "Morphologically Abnormal Structure")
NODULE: Code = ("27925004", "SCT", "Nodule")
ANATOMY: Code = ("123037004", "SCT", "Anatomical Structure")
# Nodule, mass, neoplasm (primary, secondary, malignant), lesion: SNOMED CT, and its older names.
_LESION_CODES = {
    *("27925004", "4147007", "108369006", "86049000", "14799000", "363346000", "52988006"),
    *("M-03010", "M-03000", "M-8FFFF", "M-80003", "M-80006", "M-80000", "M-01100"),
}
_LESION = re.compile(
    r"i?gtv|(?<![a-z])(tumou?r|tumeur|nodul[eo]|l[ae]sion|mass|neoplasm)(e?s|en?)?(?![a-z])"
    r"|肿瘤|腫瘤|腫瘍|病灶|病变|病変|结节|結節"
)
# Targets with a margin, and organs without their tumour.
_NO_LESION = re.compile(
    r"[cp]tv|(minus|without|excl\w*)[\s_.]*i?(gtv|tumou?r|lesion|nodule|mass)"
    r"|(lungs?|liver|brain|heart|body)[^-]*-[\s_]*i?gtv"
)
_NO_LESION_TYPES = {  # of an RTSTRUCT
    *("EXTERNAL", "ISOCENTER", "MARKER", "REGISTRATION", "CONTROL", "AVOIDANCE", "SUPPORT"),
    *("FIXATION", "DOSE_REGION", "CTV", "PTV", "TREATED_VOLUME", "IRRAD_VOLUME"),
}
_OWN_NAME = re.compile(
    r"(lesion|structure) ([1-9]\d*)(?: \((.*)\))?, (reader|algorithm)(?: ([1-9]\d*))?"
    r"(?: \((.*)\))?",
    re.IGNORECASE,
)
_LABEL, _ROLE = 64, 24  # characters of a DICOM LO, and of the role in it


@dataclass(frozen=True)
class Structure:
    """A segment of a SEG or a region of an RTSTRUCT."""

    number: int
    label: str
    kind: str  # meaning of its SEG type code, or its RTROIInterpretedType
    author: Author
    parts: int  # frames, or contours
    code: tuple[Code, Code] | None = None  # category and type
    description: str = ""  # in a file of ours its own name, which a label may cut

    @property
    def ours(self) -> re.Match[str] | None:
        """The label's parts, if it was given here."""
        return _OWN_NAME.fullmatch(self.label.strip())

    @property
    def name(self) -> str:
        """The structure's own name, without what was put around it here; may be empty."""
        return (self.description or self.ours[3] or "") if self.ours else self.label

    @property
    def is_lesion(self) -> bool:
        """Whether it says so: by its name, its code or its type."""
        if self.ours:
            return self.ours[1].lower() == "lesion"
        if self.code and _codes_lesion(self.code):
            return True
        return self.kind not in _NO_LESION_TYPES and names_lesion(f"{self.label} {self.kind}")

    def __str__(self) -> str:
        return f"{self.number} {self.label!r}"


@dataclass(frozen=True)
class Choice:
    """What is taken from a file, and how it is counted here."""

    keys: Mapping[int, tuple[int, int]]  # lesion and reader, by the structure's number
    names: Mapping[int, str]
    authors: Mapping[int, Author]
    codes: Mapping[int, tuple[Code, Code]]
    notes: tuple[str, ...]

    def label(self, annotation: Annotation, *notes: str) -> Annotation:
        """Say in an annotation what its lesions are called, who drew them, what was left out."""
        return replace(
            annotation,
            names=self.names,
            authors=self.authors,
            codes=self.codes,
            notes=(*self.notes, *notes),
        )


def names_lesion(name: str) -> bool:
    """Whether a name is that of a lesion."""
    plain = unicodedata.normalize("NFKD", name).lower()
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return bool(_LESION.search(plain)) and not _NO_LESION.search(plain)


def choose(path: Path, found: Sequence[Structure], rois: Sequence[str] = ()) -> Choice:
    """Take the structures named by `rois` (name or number), else those that say they are lesions.

    InputError, which lists what is there, if that is none, or if one of `rois` is none of them.
    """
    listed = ", ".join(map(str, found)) or "none"
    taken = [one for one in found if one.is_lesion]
    if rois:
        asked = {roi: [one for one in found if _is_meant(one, roi)] for roi in rois}
        if unknown := [roi for roi, ones in asked.items() if not ones]:
            raise InputError(
                f"{path}: has no structure {unknown[0]!r}; expected one of: {listed}; give its "
                "name or number with --roi"
            )
        taken = [one for one in found if any(one in ones for ones in asked.values())]
    if not taken:
        raise InputError(
            f"{path}: none of its structures says that it is a lesion: {listed}; choose with "
            "--roi NAME or --roi NUMBER"
        )
    left = [str(one) for one in found if one not in taken]
    notes = (f"left out: {', '.join(left)}",) * bool(left)
    keys = _counted(taken)
    authors = {keys[one.number][1]: one.author for one in taken}
    names = {keys[one.number][0]: one.name for one in taken if one.name}
    codes = {keys[one.number][0]: one.code or _general(one.is_lesion) for one in taken}
    return Choice(keys, names, authors, codes, notes)


def _is_meant(one: Structure, roi: str) -> bool:
    asked = roi.strip().casefold()
    return asked in (one.label.strip().casefold(), one.name.strip().casefold(), str(one.number))


def _counted(taken: Sequence[Structure]) -> dict[int, tuple[int, int]]:
    """Return lesion and reader as our own names say; else each structure is a lesion."""
    keys = {one.number: (int(o[2]), int(o[5] or 1)) for one in taken if (o := one.ours)}
    foreign = [one for one in taken if not one.ours]
    lesions = {lesion for lesion, _ in keys.values()}
    readers = list(dict.fromkeys(one.author for one in foreign))
    first = max((reader for _, reader in keys.values()), default=0) + 1
    for one in foreign:
        free = one.number > 0 and one.number not in lesions
        lesion = one.number if free else max(lesions, default=0) + 1
        lesions.add(lesion)
        keys[one.number] = lesion, first + readers.index(one.author)
    return keys


def author_in(label: str, author: Author) -> Author:
    """Add the role that a label of ours tells to what a file says of the author."""
    own = _OWN_NAME.fullmatch(label.strip())
    return replace(author, name=own[6]) if own and own[6] and author.kind == "reader" else author


def label_of(annotation: Annotation, mask: LesionMask) -> str:
    """Name one author's mask of one structure, in at most 64 characters."""
    author, name = annotation.author(mask.reader), annotation.names.get(mask.lesion, "")
    name = name.replace("\\", "/")  # which parts the values of an LO
    lesion = _codes_lesion(code_of(annotation, mask.lesion)) or names_lesion(name)
    number = "" if author.kind == "algorithm" and mask.reader == 1 else f" {mask.reader}"
    role = f" ({author.name[:_ROLE]})" if author.kind == "reader" and author.name else ""
    head = f"{'Lesion' if lesion else 'Structure'} {mask.lesion}"
    tail = f", {author.kind}{number}{role}"
    room = _LABEL - len(head + tail) - len(" ()")
    return f"{head} ({name[: max(room, 0)]}){tail}" if name else head + tail


def code_of(annotation: Annotation, lesion: int) -> tuple[Code, Code]:
    """Return category and type of a structure: as in its file, else by its name."""
    name = annotation.names.get(lesion, "")
    return annotation.codes.get(lesion) or _general(not name or names_lesion(name))


def _codes_lesion(code: tuple[Code, Code]) -> bool:
    return code[1][0] in _LESION_CODES or names_lesion(code[1][2])


def _general(lesion: bool) -> tuple[Code, Code]:
    return (ABNORMAL, NODULE) if lesion else (ANATOMY, ANATOMY)
