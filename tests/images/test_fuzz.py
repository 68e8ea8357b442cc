"""Whatever the headers and bytes: a volume or one of our errors, within bounds, nothing written."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fuzz_series import damaged, small_volume
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.filereader import data_element_generator
from pydicom.tag import Tag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR
from series_tools import files_of

from medlib.errors import MedlibError
from medlib.images.dicom import read_series, write_series

FUZZ = Path(__file__).with_name("fuzz_series.py")
# Taken by Python and NumPy for one input of 17 kB; a claim that is believed takes gigabytes.
MEMORY_BOUND_MIB = 32
BOUNDED = settings(
    max_examples=60,
    deadline=10_000,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking has no bound
    suppress_health_check=[HealthCheck.too_slow],
)

KEYWORDS = [
    "BitsAllocated",
    "BitsStored",
    "Columns",
    "FrameOfReferenceUID",
    "GantryDetectorTilt",
    "HighBit",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ImageType",
    "InstanceNumber",
    "LossyImageCompression",
    "NumberOfFrames",
    "PatientID",
    "PhotometricInterpretation",
    "PixelData",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "PixelRepresentation",
    "PixelSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "Rows",
    "SOPClassUID",
    "SOPInstanceUID",
    "SamplesPerPixel",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SharedFunctionalGroupsSequence",
    "SliceThickness",
    "SpecificCharacterSet",
]
# What a value may be on disk: numbers as text, whole numbers, words, anything.
VALUES = st.one_of(
    st.none(),  # deleted
    st.binary(max_size=24),
    st.integers(0, 2**16 - 1).map(lambda v: v.to_bytes(2, "little")),
    st.integers(0, 2**32 - 1).map(lambda v: v.to_bytes(4, "little")),
    st.lists(st.floats(), min_size=1, max_size=7).map(
        lambda values: "\\".join(f"{value:.6g}" for value in values).encode()
    ),
    st.text(max_size=12).map(lambda text: text.encode("utf-8", "ignore")),
    st.sampled_from(
        [b"1.2.840.10008.5.1.4.1.1.2.1", b"1.2.840.10008.5.1.4.1.1.104.1", b"HU", b"1e308", b"nan"]
    ),
)
VRS = st.sampled_from(sorted(str(vr) for vr in STANDARD_VR))
EDITS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(KEYWORDS), VRS | st.none(), VALUES),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "good"
    write_series(small_volume(), folder)
    return folder


def read_bounded(source: Path) -> None:
    """Read, and hold the outcome, the memory and the folder to their bounds."""
    before = sorted(source.parent.rglob("*"))
    tracemalloc.start()
    try:
        volumes = read_series(source)
    except MedlibError as error:
        message = str(error)
    else:
        message = ""
        assert volumes
        for volume in volumes:
            assert np.isfinite(volume.hu).all()
            assert np.isfinite(volume.affine).all()
            assert min(volume.spacing_mm) > 0
            assert all(warning.isprintable() for warning in volume.warnings)
    finally:
        peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
    assert message.isprintable(), "one line"
    assert peak_mib < MEMORY_BOUND_MIB
    assert sorted(source.parent.rglob("*")) == before


def write_raw(path: Path, keyword: str, vr: str | None, value: bytes | None) -> None:
    """Put a value into a file as it is, in the VR of the keyword or in another."""
    raw = path.read_bytes()
    stream = io.BytesIO(raw)
    stream.seek(132)
    elements = {e.tag: (e.VR, e.value) for e in data_element_generator(stream, False, True)}
    tag = Tag(tag_for_keyword(keyword))
    own_vr = dictionary_VR(tag).split(" or ")[-1]
    elements[tag] = (vr or own_vr, value)
    with path.open("wb") as out:
        out.write(raw[:132])
        for tag, (vr, value) in sorted(elements.items()):
            if value is not None:
                padded = value + bytes(len(value) % 2)
                out.write(struct.pack("<HH2s", tag.group, tag.element, vr.encode()))
                size = "<HI" if vr in EXPLICIT_VR_LENGTH_32 else "<H"
                out.write(struct.pack(size, *[0] * (size == "<HI"), len(padded)) + padded)


@BOUNDED
@given(edits=EDITS)
def test_headers(good, edits):
    with tempfile.TemporaryDirectory() as scratch:
        folder = shutil.copytree(good, Path(scratch) / "in")
        files = files_of(folder)
        for which, keyword, vr, value in edits:
            for path in files if which >= len(files) else [files[which]]:
                write_raw(path, keyword, vr, value)
        read_bounded(folder)


@BOUNDED
@given(seed=st.integers(0, 2**32 - 1), everywhere=st.booleans())
def test_bytes(good, seed, everywhere):
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = shutil.copytree(good, Path(scratch) / "in")
        for path in files_of(folder)[: 3 if everywhere else 1]:
            path.write_bytes(damaged(path.read_bytes(), rng))
        read_bounded(folder)


@BOUNDED
@given(seed=st.integers(0, 2**32 - 1), names=st.lists(st.text(max_size=20), max_size=3))
def test_archives(good, seed, names):
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "in.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for k, path in enumerate(files_of(good)):
                name = names[k].replace("\0", "") if k < len(names) else path.name
                packed.write(path, f"{k}{name}" if k < len(names) else name)
        archive.write_bytes(damaged(archive.read_bytes(), np.random.default_rng(seed)))
        read_bounded(archive)


def test_every_kind_of_file_in_a_process_of_its_own(tmp_path):
    """Decoders in C are where a crash would be: that would end another process, not this one."""
    done = subprocess.run(
        [sys.executable, FUZZ, "240", "0", tmp_path], capture_output=True, text=True, timeout=300
    )
    now = (tmp_path / "now").read_text()
    assert done.returncode == 0, f"at input {now}: {done.stderr[-2000:]}"
    assert done.stderr == "", "decoders keep quiet: what they say is in the error"
    found = json.loads(done.stdout)
    assert found["examples"] == sum(found["outcomes"].values()) == 240
    assert len(found["outcomes"]) >= 8
    assert found["outcomes"]["read"] < 160, "damage that does none proves nothing"
