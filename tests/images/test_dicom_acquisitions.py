"""Acquisitions in one series are kept apart; what only looks like them is read as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid
from series_tools import edit, files_of, multi_frame

from medlib.images.dicom import read_series, write_series
from medlib.images.dicom_acquisitions import refuse_alternating
from medlib.images.image_errors import (
    DuplicateSlicesError,
    MissingSlicesError,
    MixedAcquisitionsError,
)
from medlib.images.volume import SeriesIdentity, Volume

STEP_MM = 4.0
SLICES = 12


def anatomy(z_mm: np.ndarray, shift: int = 0) -> np.ndarray:
    """A body of soft tissue in air whose organs change slowly along z."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:96, 0:96]
    hu = np.full((len(z_mm), 96, 96), -1000.0, np.float32)
    for k, z in enumerate(z_mm):
        hu[k][(x - 48) ** 2 + (y - 48) ** 2 < 40**2] = 40
        for side in (30, 66):
            inside = (x - side) ** 2 + ((y - 48) / 1.6) ** 2 < (12 + z / 20) ** 2
            hu[k][inside] = -850
        hu[k] = np.roll(hu[k], (shift, shift), (0, 1))
    return np.rint(hu + rng.normal(0, 10, hu.shape)).astype(np.float32)


def acquire(
    folder: Path, start_mm: float = 0.0, shift: int = 0, step_mm: float = STEP_MM, n: int = SLICES
) -> list[Path]:
    """Write one acquisition, from the feet to the head; return its files."""
    affine = np.diag([0.75, 0.75, step_mm, 1.0])
    affine[2, 3] = start_mm
    identity = SeriesIdentity("P-1", "1.2.3", "1.2.3.4", "1.2.3.5", "M", "X", "K")
    hu = anatomy(start_mm + step_mm * np.arange(n), shift)
    written = write_series(Volume(hu, affine, identity), folder / f"{start_mm:g}")
    for path in written:
        edit(path, SOPInstanceUID=generate_uid())
    return written


def label(files: list[Path], **of_k) -> None:
    """Set elements of the k-th file: a value for all, or a function of k; None removes."""
    for k, path in enumerate(files):
        edit(path, **{name: v(k) if callable(v) else v for name, v in of_k.items()})


SILENT = {"AcquisitionTime": None, "ContentTime": None}


def clock(start: int):
    return lambda k: f"{start + k // 4:06d}.{k % 4}00000"


TOLD = {
    "acquisition numbers": ({}, {"AcquisitionNumber": 2}, "AcquisitionNumber 1 .* and 2 "),
    "times of slices": (
        {"AcquisitionTime": clock(120000)},
        {"AcquisitionTime": clock(120500)},
        r"AcquisitionTime 120000\.000000 .*",
    ),
    "one time each": (
        {"AcquisitionTime": "120000"},
        {"AcquisitionTime": "120500"},
        "AcquisitionTime 120000 .* and 120500 ",
    ),
    "content times": (
        {"AcquisitionTime": None, "ContentTime": clock(120000)},
        {"AcquisitionTime": None, "ContentTime": clock(120500)},
        "ContentTime 120000",
    ),
    "image numbers": (
        {**SILENT, "AcquisitionNumber": None},
        {**SILENT, "AcquisitionNumber": None, "InstanceNumber": lambda k: 101 + k},
        "InstanceNumber 1 to 12 .* and 101 to 112 ",
    ),
    "image numbers, down again": (
        {},
        {"InstanceNumber": lambda k: 200 - k},
        r"InstanceNumber .* and \d+ to 200 ",
    ),
    "both from head to feet": (
        {"InstanceNumber": lambda k: 99 - k},
        {"InstanceNumber": lambda k: 200 - k},
        "InstanceNumber 88 to 99 .* and 189 to 200 ",
    ),
    "a time for each slice, then one for all": (
        {"AcquisitionTime": clock(120000), "InstanceNumber": None},
        {"AcquisitionTime": "120500", "InstanceNumber": None},
        "AcquisitionTime 120000.000000 to 120002.300000 .* and 120500 ",
    ),
    "image numbers counted afresh": ({}, {}, "Images of the same InstanceNumber, 1 .* and 2 "),
}


@pytest.mark.parametrize(
    ("name", "start_mm"),
    [
        (name, start_mm)
        for name in TOLD
        for start_mm in (2.0, 1.0, 4 * STEP_MM + 2)
        if not (name.endswith("afresh") and start_mm > 10)  # the same number at other heights
    ],
)
def test_interleaved_acquisitions_are_refused(tmp_path, name, start_mm):
    first, second, words = TOLD[name]
    label(acquire(tmp_path), **first)
    label(acquire(tmp_path, start_mm, shift=8), **second)
    with pytest.raises(MixedAcquisitionsError, match=words) as caught:
        read_series(tmp_path)
    assert "12 slices, z = 0 to 44 mm" in str(caught.value)
    assert f"z = {start_mm:g} to {44 + start_mm:g} mm" in str(caught.value)
    assert "give each in a folder of its own" in str(caught.value)


def test_each_acquisition_alone_is_read(tmp_path):
    acquire(tmp_path)
    label(acquire(tmp_path, 2.0, shift=8), AcquisitionNumber=2)
    for start_mm in ("0", "2"):
        [read] = read_series(tmp_path / start_mm)
        assert read.spacing_mm[0] == pytest.approx(STEP_MM)
        assert read.warnings == ()


def test_acquisitions_at_the_same_heights_are_named(tmp_path):
    first, again = acquire(tmp_path), acquire(tmp_path / "again", shift=8)
    label([*first, *again], InstanceNumber=None)
    with pytest.raises(DuplicateSlicesError, match="lie both at z"):
        read_series(tmp_path)
    label(again, AcquisitionNumber=2)
    with pytest.raises(MixedAcquisitionsError, match="AcquisitionNumber 1 .* and 2 "):
        read_series(tmp_path)


def test_phases_in_a_multi_frame_file(tmp_path):
    acquire(tmp_path)
    acquire(tmp_path, 2.0, shift=8)
    for k, path in enumerate([p for start in ("0", "2") for p in files_of(tmp_path / start)]):
        path.rename(tmp_path / f"{k:02d}.dcm")
    multi_frame(tmp_path)
    [path] = files_of(tmp_path)
    dataset = pydicom.dcmread(path)
    for k, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        content = pydicom.Dataset()
        content.FrameAcquisitionNumber = 1 + k // SLICES
        group.FrameContentSequence = [content]
    dataset.save_as(path)
    with pytest.raises(MixedAcquisitionsError, match="FrameAcquisitionNumber 1 .* and 2 "):
        read_series(tmp_path)


def numbered_by_height(folder: Path) -> None:
    """Nothing in the headers tells the acquisitions apart."""
    files = sorted(folder.rglob("*.dcm"), key=lambda p: pydicom.dcmread(p).SliceLocation)
    label(files, InstanceNumber=lambda k: k + 1, **SILENT)


def test_sets_a_millimetre_apart_are_no_missing_slices(tmp_path):
    acquire(tmp_path)
    acquire(tmp_path, 1.0, shift=8)
    numbered_by_height(tmp_path)
    with pytest.raises(MixedAcquisitionsError, match="24 slices are 2 sets, each 4 mm apart"):
        read_series(tmp_path)


def test_missing_slices_are_still_missing(tmp_path):
    files = acquire(tmp_path)
    files[4].unlink()
    with pytest.raises(MissingSlicesError, match="about 1 missing at z = 16 mm"):
        read_series(tmp_path)


@pytest.mark.parametrize("every", [3, 5])
def test_slices_missing_in_a_rhythm_are_still_missing(tmp_path, every):
    for path in acquire(tmp_path, n=30)[1::every]:
        path.unlink()
    with pytest.raises(MissingSlicesError, match=f"about {30 // every} missing"):
        read_series(tmp_path)


def test_half_of_the_patient_acquired_twice_may_be_no_missing_slices(tmp_path):
    acquire(tmp_path)
    acquire(tmp_path, 2.0, shift=8, n=6)
    numbered_by_height(tmp_path)
    with pytest.raises(MissingSlicesError, match="or separate what was acquired twice"):
        read_series(tmp_path)


@pytest.mark.parametrize("start_mm", [1.4, 1.8])
def test_sets_off_the_middle_are_no_uneven_slices(tmp_path, start_mm):
    acquire(tmp_path)
    acquire(tmp_path, start_mm, shift=8)
    numbered_by_height(tmp_path)
    with pytest.raises(MixedAcquisitionsError, match=f"4 mm apart, the second {start_mm:g} mm"):
        read_series(tmp_path)


def test_where_headers_are_silent_the_pixels_speak(tmp_path):
    acquire(tmp_path)
    acquire(tmp_path, 2.0, shift=8)
    numbered_by_height(tmp_path)
    with pytest.raises(MixedAcquisitionsError, match="looks like the second"):
        read_series(tmp_path)


def read_without_a_word(folder: Path, step_mm: float = STEP_MM) -> Volume:
    [read] = read_series(folder)
    assert read.warnings == ()
    assert read.spacing_mm[0] == pytest.approx(step_mm)
    return read


@pytest.mark.parametrize("times", [False, True])
@pytest.mark.parametrize("afresh", [False, True])
def test_four_acquisitions_end_to_end_are_one_scan(tmp_path, times, afresh):
    for k in range(4):
        start = 0 if afresh else k * SLICES
        files = acquire(tmp_path, k * SLICES * STEP_MM)
        label(
            files,
            AcquisitionNumber=k + 1,
            InstanceNumber=lambda n, start=start: start + n + 1,
            AcquisitionTime=clock(120000 + 100 * k) if times else "120000",
        )
    [read] = read_series(tmp_path)
    assert len(read.hu) == 4 * SLICES
    assert not any("acquisition" in warning for warning in read.warnings)


def test_a_time_and_a_number_of_its_own_for_each_slice(tmp_path):
    label(acquire(tmp_path), AcquisitionNumber=lambda k: k + 1, AcquisitionTime=clock(120000))
    read_without_a_word(tmp_path)


def test_blocks_of_four_rows_each_from_head_to_feet(tmp_path):
    label(
        acquire(tmp_path, n=24),
        AcquisitionNumber=lambda k: 1 + k // 4,
        AcquisitionTime=lambda k: f"{120000 + k // 4:06d}",
        InstanceNumber=lambda k: 4 * (k // 4) + 4 - k % 4,
    )
    read_without_a_word(tmp_path)


def test_numbers_at_random_are_harmless(tmp_path):
    files = acquire(tmp_path, n=40)
    rng = np.random.default_rng(1)
    for _ in range(5):
        order = rng.permutation(40)
        acquisition = rng.integers(1, 3, 40)
        label(
            files,
            InstanceNumber=lambda k, order=order: int(order[k]) + 1,
            AcquisitionNumber=lambda k, of=acquisition: int(of[k]),
        )
        read_without_a_word(tmp_path)


def test_numbers_in_the_order_of_their_text_are_harmless(tmp_path):
    order = sorted(range(1, 61), key=str)  # 1, 10, 11, ..., 19, 2, 20, ...
    label(acquire(tmp_path, n=60, step_mm=1), InstanceNumber=lambda k: order.index(k + 1) + 1)
    read_without_a_word(tmp_path, 1)


def test_overlapping_reconstruction_is_harmless(tmp_path):
    label(acquire(tmp_path, step_mm=1.0, n=40), SliceThickness="2")
    read_without_a_word(tmp_path, 1)


@pytest.mark.parametrize("backwards", [False, True])
def test_of_copies_the_same_one_is_kept(tmp_path, backwards):
    files = acquire(tmp_path)
    copies = acquire(tmp_path / "copies")
    label(copies, InstanceNumber=lambda k: 100 + k)
    every = [*files, *copies]
    [read] = read_series(every[::-1] if backwards else every)
    assert read.warnings == ("12 file(s) are copies of another and were passed over",)
    assert list(read.sop_instance_uids) == [pydicom.dcmread(p).SOPInstanceUID for p in files]


def test_an_image_twice_at_one_height_but_beside_is_no_copy(tmp_path):
    files = acquire(tmp_path)
    [x, y, z] = map(float, pydicom.dcmread(files[3]).ImagePositionPatient)
    again = acquire(tmp_path / "again")
    for path in again[:3] + again[4:]:
        path.unlink()
    edit(again[3], ImagePositionPatient=[x + 0.5, y, z])
    with pytest.raises(DuplicateSlicesError):
        read_series(tmp_path)


def test_a_phantom_and_noise_do_not_look_like_several():
    noise = np.random.default_rng(0).normal(-300, 400, (40, 128, 128)).astype(np.float32)
    refuse_alternating(noise)
    refuse_alternating(anatomy(np.arange(40.0)))


@pytest.mark.parametrize(("sets", "which"), [(2, "second"), (3, "third"), (4, "fourth")])
def test_sets_in_turn_are_refused(sets, which):
    hu = anatomy(np.arange(40.0))
    for k in range(1, sets):
        hu[k::sets] = np.roll(hu[k::sets], (6 * k, 6 * k), (1, 2))
    with pytest.raises(MixedAcquisitionsError, match=f"looks like the {which}"):
        refuse_alternating(hu)
