"""Where a text names its patient: the words to look for, and how they are told from others.

A long word is found inside others, too ("CT_Meyerhoff2"). A short one would be everywhere so: it
counts where it stands alone, next to no other letter (a number: next to no letter or digit). Words
of one letter count only as part of the whole name. Chinese, Japanese and Korean is written without
spaces: there two characters are a long word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from pydicom.charset import python_encoding
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

LONG = 4
MOST_CHARACTERS = 1000  # three groups of a name have 192
TEXT = ("AE", "AS", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT")
# What the standard says in its own words stays, even where a patient is called like it.
_TERMS = {"00", "01", "CC", "CT", "CW", "HU", "NO", "RGB", "YES", *python_encoding}
_TERMS |= {"AXIAL", "DERIVED", "LOCALIZER", "MIXED", "NONE", "ORIGINAL", "PRIMARY", "SECONDARY"}
_TERMS |= {"MONOCHROME", "MONOCHROME1", "MONOCHROME2", "IDENTITY", "LINEAR", "VOLUME"}
_TERMS |= {"HFS", "HFP", "HFDL", "HFDR", "FFS", "FFP", "FFDL", "FFDR"}
_TERMS |= {"ABDOMEN", "CHEST", "HEAD", "LUNG", "NECK", "THORAX"}
_NEVER_EMPTY = ("CodeMeaning", "CodeValue", "CodingSchemeDesignator", "FrameType", "ImageType")
_PERSONS = ("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName")
_NUMBERS = ("PatientID", "OtherPatientIDs", "AccessionNumber")
_PARTICLES = {"al", "bin", "da", "de", "del", "den", "der", "di", "dos", "du", "el", "la", "le"}
_PARTICLES |= {"ten", "ter", "van", "von"}
_SPELT_OUT = str.maketrans({"ä": "ae", "æ": "ae", "ö": "oe", "ø": "oe", "ü": "ue"})
_UNSPACED = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_WORD = re.compile(r"[^\W_]+")
_BETWEEN = r"[\W_]*"


def folded(text: str) -> str:
    """Return a text without capitals, accents and widths, so that only its letters are compared."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", "".join(c for c in plain if not unicodedata.combining(c)))


def naming(dataset: Dataset) -> re.Pattern[str]:
    """Return what finds the patient of a data set in a `folded` text: names, and numbers."""
    found: set[str] = set()
    for element in dataset.iterall():
        if element.keyword in _PERSONS + _NUMBERS:
            words_of = _of_name if element.keyword in _PERSONS else _of_number
            for value in element.value if element.VM > 1 else [element.value]:
                plain = str(value or "")[:MOST_CHARACTERS].casefold().translate(_SPELT_OUT)
                found.update(words_of(folded(plain)))
    # "Müller" is written Mueller and Muller, too.
    return re.compile(re.sub("(?<=[aou])e", "e?", "|".join(sorted(found))) or r"(?!)")


def blank(element: DataElement, names: re.Pattern[str]) -> bool:
    """Take from a text the values that name the patient; say whether there was one."""
    if element.VR not in TEXT or not element.value:
        return False
    values = [str(value) for value in element.value] if element.VM > 1 else [str(element.value)]
    named = [v.upper() not in _TERMS and bool(names.search(folded(v))) for v in values]
    # The first three values of an ImageType have a meaning by their place.
    needed = 3 if element.keyword in _NEVER_EMPTY else 0
    kept = [
        "ANONYMIZED" if named[place] else value
        for place, value in enumerate(values)
        if place < needed or not named[place]
    ]
    if any(named):
        element.value = kept if len(kept) > 1 else "".join(kept)
    return any(named)


def _of_name(text: str) -> Iterator[str]:
    for group in text.split("="):  # as letters, as characters, by sound
        parts = [_WORD.findall(part) for part in group.split("^")[:3]]  # then come titles
        parts = [part for part in parts if part]
        if len(parts) == 1:  # written without its parts
            parts = [[word] for word in parts[0]]
        for part in parts:
            for word in part:
                if len(part) == 1 or word not in _PARTICLES:
                    yield from _of_word(word)
        if len(parts) > 1:
            first, second = parts[0], parts[1]
            yield from (_alone(first + second), _alone(second + first))
            if _UNSPACED.fullmatch(whole := "".join(first + second)):
                yield whole
        elif parts and _UNSPACED.fullmatch(word := parts[0][0]):
            for k in range(1, len(word)) if len(word) <= LONG else ():
                yield from (*_of_word(word[:k]), *_of_word(word[k:]))


def _of_word(word: str) -> Iterator[str]:
    if len(word) >= (2 if _UNSPACED.fullmatch(word) else LONG):
        yield word
    elif len(word) > 1 or _UNSPACED.fullmatch(word):
        yield _alone([word])


def _of_number(text: str) -> Iterator[str]:
    words = _WORD.findall(text)
    yield from (word for word in words if len(word) >= LONG)
    if len("".join(words)) > 1:
        yield _alone(words)


def _alone(words: list[str]) -> str:
    """Return the pattern of words that follow one another, next to no letter, or digit."""
    text = _BETWEEN.join(words)
    other = r"[^\W_]" if any(map(str.isdigit, text)) else r"[^\W\d_]"
    return rf"(?<!{other}){text}(?!{other})"
