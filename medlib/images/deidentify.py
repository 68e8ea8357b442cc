"""DICOM images without their patient: the Basic Application Confidentiality Profile of PS3.15.

What happens to which attribute comes from the table that the package dicom-anonymizer keeps in
step with the standard. Its own functions are not used: they leave nested sequences as they are,
turn removed dates into dummies, and remap UIDs at random, file by file.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import importlib
import io
import secrets
import uuid
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from medlib.errors import InputError
from medlib.files import put_in_place
from medlib.images.dicom import is_capture
from medlib.images.dicom_find import Source, found_files
from medlib.images.dicom_header import Header, Memo, read_header, syntax_of
from medlib.images.patient_names import TEXT, blank, naming
from medlib.progress import track

TABLE = "dicomfields_2026c"  # edition of PS3.15 Table E.1-1
MIN_KEY_BYTES = 16
# A dummy is right for every kind of object; an empty value is not where the standard wants one.
_ACTIONS = {
    "remove": ("X_TAGS",),
    "empty": ("Z_TAGS", "X_Z_TAGS"),
    "dummy": ("D_TAGS", "Z_D_TAGS", "X_D_TAGS", "X_Z_D_TAGS"),
    "uid": ("U_TAGS",),
    "clean": ("X_Z_U_STAR_TAGS",),
}
# Not in the standard's table, though they say what its PatientBirthDate says.
# PatientBirthDateInAlternativeCalendar and PatientDeathDateInAlternativeCalendar.
_ALSO_REMOVED = ((0x0010, 0x0033), (0x0010, 0x0034))
_DUMMY = {"AS": "000Y", "DA": "19000101", "DT": "19000101000000", "TM": "000000", "UR": ""}
_NUMBERS = ("DS", "IS", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV")
_NO_INSTANCE = ("Class", "TransferSyntax", "CodingScheme", "Context", "MappingResource")
_IMAGE_UIDS = ("SOPInstanceUID", "SeriesInstanceUID")
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_SCREENSHOT = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture and its multi-frame kinds


@dataclass(frozen=True)
class Written:
    """What `deidentify` did."""

    n_files: int
    n_series: int
    n_patients: int
    left_out: Mapping[str, int]  # why files were not written -> how many
    n_blanked: int  # texts emptied because they repeated a name or number of the patient
    notes: tuple[str, ...] = ()  # what of the source could not be reached


def deidentify(source: Path, out_dir: Path, key: bytes | None = None) -> Written:
    """Write the DICOM images of a folder, or one, without what identifies their patient.

    `out_dir` gets ``<series>/<image>.dcm`` under new UIDs, all of it or nothing. UIDs and patient
    numbers follow from a secret key of 16 bytes or more: the same key gives the same ones in a
    later run. By default it is a random one, which is then forgotten.

    `source` is read as `medlib.images.dicom.read_series` does: links, archives and files with
    little meta information, too. A value that cannot be read is emptied.

    Only images are written. Documents (reports, dose reports, PDF) are left out, since a table
    cannot clean their text; so are images that say that text is burned into them, and pictures of
    a screen or page that do not say that none is. Faces in a head CT and rare findings still
    identify people: this is the basic profile, not a promise of anonymity.

    Raises InputError if there is no image that can be written, `out_dir` holds something, or the
    key is short.
    """
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise InputError(f"{out_dir}: holds files already; nothing is overwritten, name a new one")
    if key is not None and len(key) < MIN_KEY_BYTES:
        raise InputError(f"the key has {len(key)} bytes; expected at least {MIN_KEY_BYTES}")
    try:
        with (
            found_files(source) as found,
            put_in_place(out_dir) as beside,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # they quote what stands in the file
            return _write_all(found, beside, key or secrets.token_bytes(32))
    except OSError as error:
        raise InputError(f"{out_dir}: cannot write here ({error.strerror or error})") from error


def _write_all(source: Source, out_dir: Path, key: bytes) -> Written:
    left_out: Counter[str] = Counter()
    patients, series, n_files, n_blanked = set(), set(), 0, 0
    memo: Memo = {}
    for file in track(source.files, "images"):
        try:
            header = read_header(file.path, file.name, memo)
            if header is None or (reason := _why_not(header)):
                left_out["not DICOM" if header is None else reason] += 1
                continue
            dataset = pydicom.dcmread(file.path, force=True)
            dataset.SOPClassUID = header.sop_class  # which the meta information alone may know
            n_blanked += deidentify_dataset(dataset, key)
            whole = io.BytesIO()
            dataset.save_as(whole, enforce_file_format=True)
        except Exception:  # whatever a damaged file makes the system, parser or writer raise
            left_out["damaged"] += 1
            continue
        target = out_dir / dataset.SeriesInstanceUID / f"{dataset.SOPInstanceUID}.dcm"
        if target.exists():
            left_out["the same image twice"] += 1
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(whole.getvalue())
        patients.add(dataset.PatientID)
        series.add(dataset.SeriesInstanceUID)
        n_files += 1
    if not n_files:
        reasons = [*(f"{reason}: {n}" for reason, n in left_out.items()), *source.notes]
        why = ", ".join(reasons) or "empty folder"
        raise InputError(f"no image can be written without its patient ({why})")
    notes = tuple(source.notes)
    return Written(n_files, len(series), len(patients), dict(left_out), n_blanked, notes)


def deidentify_dataset(dataset: Dataset, key: bytes) -> int:
    """Apply the basic profile to one image, in place; return how many texts were emptied."""
    _empty_unreadable(dataset)
    names = naming(dataset)
    patient = str(dataset.get("PatientID", "")) or str(dataset.get("PatientName", ""))
    dataset.remove_private_tags()
    _clean(dataset, key)
    n_blanked = sum(blank(element, names) for element in dataset.iterall())
    dataset.PatientID = "P" + _digest(key, "patient", patient).hex()[:16].upper()
    dataset.PatientName = dataset.PatientID
    dataset.PatientIdentityRemoved = "YES"
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    dataset.DeidentificationMethod = (
        f"PS3.15 Basic Profile, table {TABLE.removeprefix('dicomfields_')}"
    )
    method = Dataset()
    method.CodeValue, method.CodingSchemeDesignator = "113100", "DCM"
    method.CodeMeaning = "Basic Application Confidentiality Profile"
    dataset.DeidentificationMethodCodeSequence = Sequence([method])
    if isinstance(dataset, FileDataset):
        meta = FileMetaDataset()  # afresh: the old one names applications and their hosts
        meta.TransferSyntaxUID = UID(syntax_of(dataset))
        dataset.file_meta, dataset.preamble = meta, b"\0" * 128
    return n_blanked


def new_uid(old: str, key: bytes) -> str:
    """Return the UID that stands for `old` under a key, always the same: PS3.5, annex B.2."""
    return f"2.25.{uuid.UUID(bytes=_digest(key, 'uid', old)[:16], version=4).int}"


def _digest(key: bytes, kind: str, text: str) -> bytes:
    return hmac.digest(key, f"{kind}:{text}".encode(), hashlib.sha256)


@functools.cache
def _actions() -> Mapping[tuple[int, ...], str]:
    table = importlib.import_module(f"dicomanonymizer.dicom_anonymization_databases.{TABLE}")
    actions = {
        tuple(tag): action  # of four numbers for overlays and curves, which `_action` removes
        for action, categories in _ACTIONS.items()
        for category in categories
        for tag in getattr(table, category)
    }
    return actions | dict.fromkeys(_ALSO_REMOVED, "remove")


def _action(element: DataElement) -> str:
    """Say what has to happen to an element; ``clean`` goes into a sequence, else ``keep``."""
    group, number = element.tag.group, element.tag.element
    # Overlays may hold text, and an overlay without its data is not valid: whole groups go.
    if group & 0xFF00 in (0x5000, 0x6000) or not dictionary_has_tag(element.tag):
        return "remove"
    if action := _actions().get((group, number)):
        return action
    if element.VR in ("DA", "DT", "TM", "UN"):
        return "remove"
    if element.VR == "UI":
        return "keep" if element.keyword.removesuffix("UID").endswith(_NO_INSTANCE) else "uid"
    return {"PN": "empty", "SQ": "clean"}.get(element.VR, "keep")


def _clean(dataset: Dataset, key: bytes) -> None:
    for element in list(dataset):
        action = _action(element)
        if action == "remove":
            del dataset[element.tag]
        elif element.VR == "SQ":
            if action != "clean":
                element.value = Sequence()
            for item in element.value:
                _clean(item, key)
        elif action == "uid":
            many = element.value if element.VM > 1 else [element.value]
            mapped = [_mapped(str(value), key) for value in many]
            element.value = mapped if element.VM > 1 else mapped[0]
        elif action == "empty":
            element.clear()
        elif action == "dummy":
            element.value = _dummy(element.VR)


def _mapped(uid: str, key: bytes) -> str:
    """Map a UID unless it is empty or one of DICOM's own, which names no instance."""
    return uid if not uid or UID(uid).name != uid else new_uid(uid, key)


def _dummy(vr: str) -> object:
    if vr in ("AE", "PN", *TEXT):
        return "ANONYMIZED"
    return 0 if vr in _NUMBERS else _DUMMY.get(vr, b"")


def _empty_unreadable(dataset: Dataset) -> None:
    """Empty what is not as its VR promises: what cannot be read cannot be cleaned."""
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
        except Exception:  # whatever a damaged value makes the converter raise
            del dataset[tag]
            if dictionary_has_tag(tag):
                dataset[tag] = DataElement(tag, dictionary_VR(tag), None)
            continue
        if element.VR in ("DS", "IS"):
            values = element.value if element.VM > 1 else [element.value]
            if any(isinstance(value, str) and value for value in values):  # text left as it was
                element.clear()
        for item in element.value if element.VR == "SQ" else ():
            _empty_unreadable(item)


def _why_not(header: Header) -> str:
    """Say why a file is not written; empty where it can be."""
    if not header.sop_class or not all(isinstance(header.get(name), str) for name in _IMAGE_UIDS):
        return "without the UIDs of an image"
    if not any(name in header.dataset for name in _PIXELS) and not header.pixels:
        return "not an image (a report or another document)"
    burned_in = header.text("BurnedInAnnotation").upper()
    if burned_in == "YES":
        return "text burned into the image"
    screen = header.sop_class.startswith(_SCREENSHOT) or is_capture(header)
    if screen and burned_in != "NO":
        return "a picture of a screen or page that may hold burned-in text"
    return ""
