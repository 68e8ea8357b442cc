"""CT series to volumes in Hounsfield units, whatever holds them.

What cannot be placed on one even, axial grid is refused: a lesion measured on a wrong grid has a
wrong size.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from medlib.errors import InputError
from medlib.images.dicom_acquisitions import refuse_alternating
from medlib.images.dicom_find import Found, Source, found_files, shown
from medlib.images.dicom_frames import frames_of
from medlib.images.dicom_geometry import stack_frames
from medlib.images.dicom_header import (
    CT_CLASSES,
    MULTI_FRAME_CT,
    Header,
    Memo,
    numbers,
    read_header,
)
from medlib.images.dicom_pixels import read_hounsfield
from medlib.images.dicom_write import write_series
from medlib.images.image_errors import NoCTError, NotAnImageError, NotDicomError, naming
from medlib.images.image_files import read_image
from medlib.images.image_grids import kind_of, turned_upright
from medlib.images.plausible_hu import check_hounsfield
from medlib.images.volume import SeriesIdentity, Volume

__all__ = ["read_series", "write_series"]

_DIRECTORY = "1.2.840.10008.1.3.10"  # a DICOMDIR: the list of a disc
# Encapsulated documents, structured reports, presentation states, plans, and their like.
_DOCUMENTS = ("104.", "88.", "11.", "481.3", "481.5", "481.8", "9.", "78.", "66.")
_LYING = {"P": "prone", "DR": "on the right side", "DL": "on the left side"}
# What ImageType says of screen saves, of a scanner's protocol page, and of reconstructions.
_CAPTURED = re.compile(r"SCREEN(?!ING)|SNAPSHOT|CAPTURE|DOSE.INFO| PROT\b")
_CALLED_CAPTURE = re.compile(r"SCREEN ?(SAVE|SHOT|CAPTURE)|DOSE (REPORT|INFO)|PATIENT PROTOCOL")
_OF_A_SCREEN = 8  # bits of a grey value
_RECONSTRUCTED = re.compile(r"DERIVED.*\b(AXIAL|MPR|REFORMATTED|RESAMPLED)\b")
_FROM_PICTURES = ("DF", "DRW", "DV", "SD", "SI")  # film, drawing, video, a page, a picture
_SAVES = "screen save(s) or image(s) with text in them"
_SCOUTS = {"SCOUT", "SCANOGRAM", "SURVIEW", "TOPOGRAM"}
_MOST_SCOUTS = 2
_AXIAL_AT_LEAST = 0.9  # of the normal along z
_STORAGE = "1.2.840.10008.5.1.4.1.1."


@dataclass
class _Contents:
    """What a source holds, by kind."""

    series: dict[str, list[Header]] = field(default_factory=lambda: defaultdict(list))
    volumes: list[Found] = field(default_factory=list)  # NIfTI, NRRD, MetaImage
    damaged: list[str] = field(default_factory=list)
    captures: int = 0
    documents: int = 0
    others: int = 0


def read_series(path: Path | Iterable[Path]) -> list[Volume]:
    """Read every CT series in a folder, a zip archive, a list of files, or one file.

    Files may lie in any order, in subfolders, behind links, in zip archives, without a suffix, and
    beside others: localizers, screen saves, dose reports and what is not DICOM are passed over. A
    series that cannot be read safely is left out where another can be read, and the other's
    warnings say so. NIfTI, NRRD and MetaImage volumes are read as research input where there is no
    DICOM.

    Series come in the order of their numbers. HU are stored value x RescaleSlope +
    RescaleIntercept of the same slice (DICOM PS3.3 C.11.1); axes run as in every `Volume`, however
    the pixels are stored; what lies outside the field of view is air.

    Raises
    ------
    InputError
        One of `medlib.images.image_errors`: nothing to read, or no series that can be read safely.
    """
    # Values outside their VR are common in real headers, and harmless where they are not used.
    with found_files(path) as source, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        contents = _look_at(source.files)
        series = contents.series
        if not series and not contents.volumes:
            raise _nothing_to_read(source, contents)
        volumes: list[Volume] = []
        refused: list[tuple[str, InputError]] = []
        for _, uid in sorted((h[0].number("SeriesNumber") or 0.0, u) for u, h in series.items()):
            try:
                with naming(f"series {shown(uid) or '(without UID)'}"):
                    volumes.append(_read_volume(uid, series[uid]))
            except InputError as error:
                refused.append((f"series {shown(uid)}", error))
        for file in contents.volumes if not series else []:
            try:
                volumes.append(read_image(file.path, name=file.name))
            except InputError as error:
                refused.append(("a research volume", error))
    if not volumes:
        first = refused[0][1]
        raise type(first)("; ".join([str(first), *source.notes]))
    # Reports quote the warnings, so these name no file: file names may hold a patient's name.
    notes = [f"left out: {series}: {type(error).__doc__}" for series, error in refused]
    notes += source.notes
    if contents.damaged:
        notes.append(f"{len(contents.damaged)} damaged DICOM file(s) passed over")
    if contents.captures:
        notes.append(f"{contents.captures} {_SAVES} passed over")
    # One of several files with the same research volume is kept; series are unique already.
    unique = {id(v) if v.sop_instance_uids else v.identity: v for v in volumes}.values()
    return [replace(volume, warnings=(*volume.warnings, *notes)) for volume in unique]


def _look_at(files: list[Found]) -> _Contents:
    """Read the headers of all files and sort them by what they hold."""
    contents = _Contents()
    memo: Memo = {}
    for file in files:
        try:
            header = read_header(file.path, file.name, memo)
        except Exception:  # whatever a damaged file makes the system or the parser raise
            contents.damaged.append(file.name)
            continue
        if header is None:
            if kind_of(file.path):
                contents.volumes.append(file)
            continue
        kind = header.sop_class
        if kind in CT_CLASSES and is_capture(header):
            contents.captures += 1
        elif kind in CT_CLASSES and "LOCALIZER" not in header.image_type:
            contents.series[str(header.get("SeriesInstanceUID") or "")].append(header)
        elif not kind and not header.pixels:
            contents.damaged.append(file.name)
        elif kind.removeprefix(_STORAGE).startswith(_DOCUMENTS):
            contents.documents += 1
        elif kind != _DIRECTORY:
            contents.others += 1
    return contents


def is_capture(header: Header) -> bool:
    """Whether an image in the CT class is a picture of a screen or a page, or has text in it."""
    kind, made = "\\".join(header.image_type), header.get("ConversionType")
    in_colour = (header.number("SamplesPerPixel") or 1) > 1
    shades = header.number("BitsStored") if "SECONDARY" in kind else None
    return (
        in_colour
        or shades == _OF_A_SCREEN
        or _CAPTURED.search(kind) is not None
        or _CALLED_CAPTURE.search(str(header.get("SeriesDescription")).upper()) is not None
        or str(header.get("BurnedInAnnotation")).upper() == "YES"
        or made in _FROM_PICTURES
        or (made == "WSD" and not _RECONSTRUCTED.search(kind))
    )


def _nothing_to_read(source: Source, contents: _Contents) -> InputError:
    name = source.name + f" ({'; '.join(source.notes)})" * bool(source.notes)
    if source.refused:
        with naming(source.name):
            raise source.refused[0]
    damaged, other = contents.damaged, "expected a CT series of the chest; choose another folder"
    if damaged:
        return NotDicomError(
            f"{name}: {len(damaged)} DICOM file(s) that cannot be read, first {damaged[0]}; "
            "expected whole files; copy or export them again"
        )
    if contents.others or contents.captures:
        count = contents.others + contents.documents + contents.captures
        saves = f" ({contents.captures} {_SAVES})" * (contents.captures > 0)
        return NoCTError(f"{name}: {count} DICOM file(s), none a CT image{saves}; {other}")
    if contents.documents:
        found = f"{contents.documents} DICOM document(s) (PDF, report, plan) and no image"
        return NotAnImageError(f"{name}: {found}; {other}")
    return NotDicomError(f"{name}: {len(source.files)} file(s), none in DICOM format; {other}")


def _read_volume(uid: str, headers: list[Header]) -> Volume:
    """Put one series on its grid."""
    kept, scouts = _without_scouts(headers)
    frames = [frame for header in kept for frame in frames_of(header)]
    if not frames:
        raise NoCTError(
            f"{len(headers)} file(s) with localizers only; expected CT images; choose another "
            "series"
        )
    frames, affine, notes = stack_frames(frames)
    hu, more = read_hounsfield(frames)
    hu, affine, source_affine = turned_upright(hu, affine)
    check_hounsfield(hu)
    refuse_alternating(hu)
    header = frames[0].header
    identity = SeriesIdentity(
        patient_id=header.text("PatientID"),
        study_instance_uid=header.text("StudyInstanceUID"),
        series_instance_uid=uid,
        frame_of_reference_uid=header.text("FrameOfReferenceUID"),
        manufacturer=header.text("Manufacturer"),
        manufacturer_model=header.text("ManufacturerModelName"),
        kernel=header.text("ConvolutionKernel"),
        body_part=header.text("BodyPartExamined"),
    )
    if not header.get("SOPClassUID"):
        more.append("without SOPClassUID: taken for CT images by what else their headers say")
    if "MIP" in header.image_type or "PROJECTION IMAGE" in header.image_type:
        more.append("a projection (MIP), not a reconstruction: HU and sizes are not those imaged")
    more += _lying_notes(header.text("PatientPosition").upper())
    sops = tuple(str(frame.header.get("SOPInstanceUID") or "") for frame in frames)
    many = any(frame.header.sop_class in MULTI_FRAME_CT for frame in frames)
    places = tuple(frame.index + 1 for frame in frames) if many else ()
    notes = [*scouts, *notes, *more]
    return Volume(hu, affine, identity, sops, tuple(notes), source_affine, places)


def _without_scouts(headers: list[Header]) -> tuple[list[Header], list[str]]:
    """Leave out images named scouts, and one or two that are not axial among many that are."""
    scouts = {id(header) for header in headers if _SCOUTS.intersection(header.image_type)}
    odd = {id(header) for header in headers if _is_across(header)}
    if len(odd - scouts) <= min(_MOST_SCOUTS, len(headers) // 7):
        scouts |= odd
    note = f"{len(scouts)} scout(s), images in another plane than the others, passed over"
    kept = [header for header in headers if id(header) not in scouts]
    return kept, [note] * bool(scouts)


def _is_across(header: Header) -> bool:
    turn = numbers(header.get("ImageOrientationPatient"), 6)
    return turn is not None and abs(turn[0] * turn[4] - turn[1] * turn[3]) < _AXIAL_AT_LEAST


def _lying_notes(position: str) -> list[str]:
    lies = [_LYING.get(position[2:], ""), "feet first" * position.startswith("FF")]
    note = (
        f"the patient lies {' and '.join(filter(None, lies))} (PatientPosition {shown(position)})"
    )
    return [note] * any(lies)
