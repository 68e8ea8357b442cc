from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from toy import Ball, ToyCohort, toy_case, toy_volume

from medlib.annotation.case import Case
from medlib.baseline import prepared_cases
from medlib.baseline.config import TrainConfig
from medlib.baseline.crops import Crops, Place, mirrored
from medlib.baseline.grid import WorkingGrid
from medlib.baseline.network_passes import Model, predict_window
from medlib.baseline.outline import ZOOMS, zoomed
from medlib.baseline.prepared_cases import (
    mass_of,
    phantom_volumes,
    prepare,
    prepare_scan,
    prepare_window,
)
from medlib.baseline.training_mix import (
    MASSES_IN_SCANS,
    MASSES_PER_PHANTOM,
    MixedCrops,
    WindowCrops,
    outline_crops,
    outline_data,
    search_crops,
)
from medlib.baseline.training_volume import (
    BACKGROUND,
    ENOUGH_VOXELS,
    IGNORED,
    LESION,
    LESION_SHARE,
    TrainingVolume,
    dense_voxels,
)
from medlib.cohorts.project_split import lidc_patients
from medlib.errors import DataError, OverlapError
from medlib.images.volume import SeriesIdentity, Volume

CONFIG = TrainConfig(profile="tiny", cohort="quick", crop_px=32, jitter_px=4, batch_size=2)


def case_of(volume: Volume, masks: np.ndarray, patient_id: str, **known) -> Case:
    bits = sum(mask.astype(np.uint8) << bit for bit, mask in enumerate(masks)).astype(np.uint8)
    labels = (bits > 0).astype(np.uint8)
    split = known.pop("split", "train")
    return Case(patient_id, patient_id, "s", split, volume, bits, labels, pd.DataFrame(), **known)


def test_the_target_of_a_window_is_what_two_readers_drew():
    hu = np.full((4, 40, 40), -850, np.float32)
    readers = np.zeros((3, 4, 40, 40), bool)
    readers[0, 1:3, 16:24, 16:24] = readers[1, 1:3, 16:24, 16:24] = True
    readers[2, 1:3, 10:30, 10:30] = True
    hu[readers[0]] = 20
    volume = Volume(hu, np.diag([1.0, 1.0, 1.25, 1.0]), SeriesIdentity("p", "", ""))
    window = case_of(volume, readers, "p", is_window=True)
    thin = CONFIG.model_copy(update={"slice_spacing_mm": 1.25})
    fine = prepare_window(window, thin)
    assert fine.is_window
    assert fine.target.sum() == 2 * 64
    assert len(fine.lesions[0]) == 2 * 64
    coarse = prepare_window(window, CONFIG)
    assert coarse.hu.shape == (2, 40, 40)
    shares = prepare_window(window, thin, by_share=True)
    assert shares.target[2, 20, 20] == pytest.approx(1)
    assert shares.target[2, 12, 12] == pytest.approx(1 / 3)
    assert len(shares.lesions[0]) == 2 * 64  # where it lies, two of them say


def test_what_lies_in_a_box_is_left_out_of_the_loss():
    volume, masks = toy_volume([Ball((20, 64, 36), 8)])
    box = np.zeros_like(masks[0])
    box[6:10, 56:72, 28:44] = True
    boxed = prepare_scan(case_of(volume, [box], "one", label_kind="boxes"), CONFIG)
    assert boxed.lesions == ()
    assert (boxed.target[6:10, 50:78, 22:50] == IGNORED).all()  # with a margin
    assert set(np.unique(boxed.target)) == {BACKGROUND, IGNORED}
    drawn = np.concatenate([boxed.lung, boxed.dense, boxed.aerated])
    assert (boxed.target.ravel()[drawn] == BACKGROUND).all()
    outline = case_of(volume, masks, "one", label_kind="outline")
    outlined = prepare_scan(outline, CONFIG)
    assert (outlined.target == LESION).sum() == len(outlined.lesions[0]) > 0
    unsure = prepare_scan(replace(outline, doubtful=box & ~masks[0]), CONFIG)
    assert (unsure.target == LESION).sum() == (outlined.target == LESION).sum()
    assert (unsure.target == IGNORED).any()


def test_phantom_lesions_of_patients_kept_for_testing_are_left_out():
    case = toy_case([Ball((20, 64, 36), 5), Ball((20, 64, 92), 7)])
    origins = ["LIDC-IDRI-0001/1", "LIDC-IDRI-0999/2"]
    case = replace(case, lesions=case.lesions.assign(origin=origins))
    volume = prepare(case, CONFIG, {"LIDC-IDRI-0001"})
    assert len(volume.lesions) == 1
    assert (volume.target[:, :, :64] != IGNORED).all()
    assert (volume.target[:, :, 64:] == IGNORED).sum() > 0
    assert (volume.target[:, :, 64:] == LESION).sum() == 0


def test_beyond_its_bounds_a_window_is_mirrored():
    assert mirrored(np.arange(-3, 8), range(0, 4)).tolist() == [2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0]
    assert mirrored(np.arange(8, 14), range(10, 12)).tolist() == [11, 10, 10, 11, 11, 10]
    hu = np.arange(20 * 20, dtype=np.int16).reshape(1, 20, 20)
    everywhere = np.arange(hu.size)
    volume = TrainingVolume(
        "p", hu, np.zeros(hu.shape, np.uint8), (), everywhere, everywhere, everywhere, True
    )
    crops = Crops([volume], CONFIG.model_copy(update={"hu_range": (0.0, 400.0)}), 1, 0)
    image, _ = crops.crop(Place(0, 0, 10, 10))
    seen = np.rint((image[..., 1] + 1) * 200)
    assert np.array_equal(seen, np.pad(hu[0], 6, mode="symmetric"))
    bounded, _ = crops.crop(Place(0, 0, 10, 10, bounds=(range(8, 12), range(8, 12))))
    assert set(np.unique(np.rint((bounded + 1) * 200))) == set(hu[0, 8:12, 8:12].ravel())


def constant(value: int, is_window: bool) -> TrainingVolume:
    hu = np.full((3, 16, 16), value, np.int16)
    everywhere = np.arange(hu.size)
    return TrainingVolume(
        "p", hu, np.zeros(hu.shape, np.uint8), (), everywhere, everywhere, everywhere, is_window
    )


def test_sources_are_mixed_by_their_shares_and_drawn_again_alike():
    sources = [
        (0.75, WindowCrops([constant(-900, True)], CONFIG)),
        (0.25, WindowCrops([constant(300, True)], CONFIG)),
    ]
    crops = MixedCrops(sources, CONFIG, 200, 0)
    dark = [float(crops[i][0].mean()) < 0 for i in range(200)]
    assert 0.65 < np.mean(dark) < 0.85
    assert dark == [float(crops[i][0].mean()) < 0 for i in range(200)]


def test_windows_are_turned_with_their_target():
    volume = constant(-900, True)
    volume.target[:, 2:5, 3:12] = LESION
    volume.hu[volume.target == LESION] = 100
    crops = WindowCrops([volume], CONFIG)
    for seed in range(20):
        image, target = crops.draw(np.random.default_rng(seed))
        assert np.array_equal(image[..., 1] > 0, target == LESION)


class Bright:
    """Stands in for a network: sure wherever the middle slice is bright."""

    def to(self, _):
        return self

    def eval(self):
        return self

    def __call__(self, image):
        return image[:, 1:2] * 20


def test_a_window_is_seen_whole_and_on_its_own_grid():
    hu = np.full((7, 45, 38), -850, np.float32)
    hu[2:5, 20:26, 15:22] = 200
    volume = Volume(hu, np.diag([0.7, 0.7, 1.0, 1.0]), SeriesIdentity("p", "", ""))
    for slice_spacing_mm in (1.0, 2.0):
        config = CONFIG.model_copy(
            update={"in_plane_spacing_mm": 0.7, "slice_spacing_mm": slice_spacing_mm}
        )
        grid = WorkingGrid.of(hu.shape, volume.spacing_mm, config)
        assert grid.slices_per_block == slice_spacing_mm
        probability = predict_window(Model(Bright(), config), volume.hu, volume.spacing_mm)
        assert probability.shape == hu.shape
        assert probability[3, 22, 18] > 0.8
        assert (probability >= 0.5).sum() == pytest.approx((hu > 0).sum(), rel=0.4)
        assert probability[:, :10].max() < 0.1


def test_slices_not_asked_for_are_left_out_and_the_others_stay_the_same():
    hu = np.random.default_rng(0).normal(-500, 200, (17, 40, 40)).astype(np.float32)
    for slice_spacing_mm in (1.0, 2.0):
        config = CONFIG.model_copy(
            update={"in_plane_spacing_mm": 0.7, "slice_spacing_mm": slice_spacing_mm}
        )
        spacing_mm = (1.0, 0.7, 0.7)
        every = predict_window(Model(Bright(), config), hu, spacing_mm)
        some = predict_window(Model(Bright(), config), hu, spacing_mm, slices=slice(6, 11))
        assert np.abs(some[6:11] - every[6:11]).max() < 1e-6
        assert not some[:6].any()
        assert not some[11:].any()


def window_of(patient_id: str, side_px: int, split: str = "train", hu_inside: float = 40) -> Case:
    hu = np.full((8, 90, 90), -850, np.float32)
    low = 45 - side_px // 2
    mask = np.zeros(hu.shape, bool)
    mask[2:6, low : low + side_px, low : low + side_px] = True
    hu[mask] = hu_inside
    volume = Volume(hu, np.diag([0.5, 0.5, 1.25, 1.0]), SeriesIdentity(patient_id, "", ""))
    window = case_of(volume, [mask] * 3, patient_id, split=split, is_window=True)
    return replace(window, case_id=f"{patient_id}-{split}-{side_px}")


def scan_of(split: str) -> Case:
    volume, masks = toy_volume([Ball((20, 64, 36), 8)])
    return case_of(volume, masks, f"scan-{split}", split=split, label_kind="outline")


def real_ct(patients: dict[str, str]) -> ToyCohort:
    """Stands in for the real CT: two nodules and a scan in each part."""
    cases = [
        case
        for split, patient in patients.items()
        for case in (window_of(patient, 12, split), window_of(patient, 60, split), scan_of(split))
    ]
    return ToyCohort(tuple(cases))


def test_outlines_are_learned_on_windows_centred_on_a_nodule_that_fits():
    config = CONFIG.model_copy(
        update={
            "in_plane_spacing_mm": 0.5,
            "slice_spacing_mm": 1.25,
            "crop_px": 64,
            "lesion_share": 1.0,
            "voi_crops": 0.85,
            "scan_crops": 0.15,
        }
    )
    real = real_ct({"train": "a", "tune": "b"})
    train, tune, patients = outline_crops(outline_data(real, None, config), config)
    assert patients == {"train": ["a", "scan-train"], "tune": ["b", "scan-tune"]}
    near, far, thick, background = train.sources
    assert [len(source.volumes) for source in (near, far, thick, background)] == [1, 1, 1, 1]
    spans = [np.ptp(source.lesions[0][1], axis=0) + 1 for source in (near, far, thick)]
    assert [span.tolist() for span in spans] == [[4, 12, 12], [2, 31, 31], [2, 12, 12]]
    for source in (near, far, thick):
        for seed in range(10):
            _, target = source.draw(np.random.default_rng(seed))
            rows, columns = np.nonzero(target >= LESION_SHARE)
            if rows.size:  # a slice beyond its ends shows none
                center = np.array([rows.mean(), columns.mean()])
                assert np.abs(center - 31.5).max() <= config.jitter_px + 1
    assert len(tune) == config.tune_crops
    asked = config.model_copy(update={"scan_crops": 0.1})
    with pytest.raises(DataError, match="5% of the crops are the phantom's"):
        outline_crops(outline_data(real, None, asked), asked)
    with pytest.raises(OverlapError, match="patient a stands in train and in tune"):
        outline_crops(outline_data(real_ct({"train": "a", "tune": "a"}), None, config), config)


PATIENTS = {"train": "LIDC-IDRI-0001", "tune": "LIDC-IDRI-0002"}


class FewPatients:
    """Stands in for the phantom: a patient in each part, outlines of a train and a test patient."""

    def cases(self, split: str) -> list[Case]:
        case = toy_case([Ball((20, 64, 36), 5), Ball((20, 64, 92), 7)])
        origins = ["LIDC-IDRI-0999/1", f"{min(lidc_patients('test'))}/2"]
        return [replace(case, patient_id=split, lesions=case.lesions.assign(origin=origins))]


def test_outlines_may_be_learned_on_the_phantom_too():
    config = CONFIG.model_copy(update={"voi_crops": 0.5, "scan_crops": 0.2})
    data = outline_data(real_ct(PATIENTS), FewPatients(), config)
    # At both zooms; of a train patient, though none of its own volumes is here.
    assert [len(volume.lesions) for volume in data["train"].phantom] == [1, 1]
    assert [len(volume.lesions) for volume in data["tune"].phantom] == [0, 0]
    train, _, patients = outline_crops(data, config)
    assert patients["train"] == ["LIDC-IDRI-0001", "scan-train", "train"]
    assert train.sources[-1].volumes == data["train"].phantom
    assert train.shares[-1] == pytest.approx(0.3)


def wider_chests(*, with_scans: bool = True) -> ToyCohort:
    """A nodule in each part that can be enlarged, denser in the tune part, and room for it."""
    cases = []
    for split, hu in (("train", 40), ("tune", 90)):
        cases.append(window_of(PATIENTS[split], 24, split, hu))
        volume, masks = toy_volume([Ball((20, 104, 60), 8)], size_mm=(100.0, 208.0, 208.0))
        volume.hu[:, 40:170, 20:188] = -850
        volume.hu[masks[0]] = 0
        if with_scans:
            known = {"split": split, "label_kind": "outline"}
            cases.append(case_of(volume, masks, f"scan-{split}", **known))
    return ToyCohort(tuple(cases))


def test_masses_are_learned_from_afar_and_nothing_small_is_asked_for_there(monkeypatch):
    shares = {"voi_crops": 0.4, "scan_crops": 0.2, "mass_crops": 0.2, "hard_hu": 10.0}
    config = CONFIG.model_copy(update=shares)
    real = wider_chests()
    lung = np.s_[2:-2, 20:85, 10:94]
    monkeypatch.setattr(prepared_cases, "lung_field", lambda hu, _: box_of(hu, lung))
    train, tune, _ = search_crops(real, FewPatients(), config)
    assert train.shares.tolist() == pytest.approx([0.4, 0.2, 0.2, 0.1, 0.1])
    far = zoomed(config, ZOOMS[-1])
    for crops, hu in ((train, 40), (tune, 90)):
        in_scans, in_phantom = crops.sources[-2:]
        for source in (in_scans, in_phantom):
            seen = source.config
            assert seen.in_plane_spacing_mm == far.in_plane_spacing_mm
            assert seen.window_share == seen.hard_hu == len(source.grafts) == 0
        as_it_is, *with_mass = in_scans.volumes
        assert len(with_mass) == MASSES_IN_SCANS
        assert (as_it_is.target == LESION).any()  # its own tumour
        sizes = {len(volume.lesions[0]) for volume in with_mass}
        assert min(sizes) > 5 * len(as_it_is.lesions[0])
        inside = [volume.hu[tuple(volume.lesions[0].T)] for volume in with_mass]
        assert np.median(np.concatenate(inside)) == pytest.approx(hu, abs=30)
        # The phantom's own lesions are left out.
        assert len(in_phantom.volumes) <= 1 + MASSES_PER_PHANTOM
        assert all((volume.target == IGNORED).any() for volume in in_phantom.volumes)
        assert not in_phantom.volumes[0].lesions
    without, _, _ = search_crops(real, FewPatients(), CONFIG.model_copy(update={"voi_crops": 0.4}))
    assert len(without.sources) == 3
    with pytest.raises(DataError, match="no train nodule is of soft tissue and 10 to 20 mm wide"):
        search_crops(real_ct(PATIENTS), FewPatients(), config)


def test_where_there_are_no_whole_scans_the_phantom_stands_in_for_them(monkeypatch):
    shares = {"voi_crops": 0.4, "scan_crops": 0.2, "mass_crops": 0.3, "slice_spacing_mm": 2.5}
    config = CONFIG.model_copy(update=shares)
    source = wider_chests(with_scans=False)
    monkeypatch.setattr(prepared_cases, "lung_field", lambda hu, _: np.ones(hu.shape, dtype=bool))
    train, _, patients = search_crops(source, FewPatients(), config)
    assert train.shares.tolist() == pytest.approx([0.4, 0.2, 0.1, 0.3])
    _, in_place_of_scans, phantom, masses = train.sources
    assert in_place_of_scans.volumes == phantom.volumes
    # Its slices are as thin as the phantom's, and so are the nodules set into it.
    assert [len(each.mask) for each in in_place_of_scans.grafts] == [
        len(each.mask) for each in phantom.grafts
    ]
    assert masses.config.in_plane_spacing_mm == 2 * config.in_plane_spacing_mm
    assert patients["train"] == ["LIDC-IDRI-0001", "train"]

    near = config.model_copy(update={"mass_crops": 0.0})
    data = outline_data(source, FewPatients(), near)
    outlines, _, _ = outline_crops(data, near)
    background, lesions = outlines.sources[-2:]
    assert background.volumes == lesions.volumes == data["train"].phantom
    assert background.config.lesion_share == 0 < lesions.config.lesion_share
    assert outlines.shares[-2:].tolist() == pytest.approx([0.2, 0.4])


def box_of(hu: np.ndarray, box: tuple[slice, ...]) -> np.ndarray:
    inside = np.zeros(hu.shape, dtype=bool)
    inside[box] = True
    return inside


@pytest.mark.parametrize(
    ("width_mm", "hu", "is_one"), [(4, 40, 0), (16, 40, 1), (40, 40, 0), (16, 400, 0)]
)
def test_soft_nodules_of_a_middle_size_are_enlarged(width_mm: float, hu: float, is_one: bool):
    window = window_of("a", round(width_mm / 0.5), hu_inside=hu)
    mass = mass_of(window, zoomed(CONFIG, ZOOMS[-1]))
    assert (mass is not None) == is_one


def test_only_so_many_phantom_patients_are_prepared():
    class Endless:
        def cases(self, split: str) -> Iterator[Case]:
            yield from FewPatients().cases(split)
            yield from FewPatients().cases(split)
            pytest.fail("a third patient was read")

    config = CONFIG.model_copy(update={"phantom_patients": 2})
    assert len(phantom_volumes(Endless(), "train", config, [config])) == 2


def test_hard_places_answer_to_the_dot_filter_and_lie_away_from_what_is_marked():
    balls = [Ball((20.0, 64.0, 36.0), 4.0), Ball((20.0, 64.0, 92.0), 4.0)]
    volume, (lesion, other) = toy_volume(balls, spacing_mm=(2.0, 1.0, 1.0), noise_hu=5.0)
    inside = np.zeros(lesion.shape, bool)
    inside[:, 30:98, 12:116] = True  # lungs, vessels along z, a piece of the mediastinum
    config = CONFIG.model_copy(update={"hard_hu": 10.0})
    spacing_mm = volume.spacing_mm
    dense = dense_voxels(volume.hu, spacing_mm, inside, lesion, CONFIG)
    hard = dense_voxels(volume.hu, spacing_mm, inside, lesion, config)
    assert lesion.ravel()[dense].any()
    assert not lesion.ravel()[hard].any()
    assert 0.5 < other.ravel()[hard].sum() / other.sum() <= 1
    assert len(hard) < len(dense) / 5  # the second ball alone is dot-like
    few = dense_voxels(volume.hu, spacing_mm, inside, lesion | other, config)
    assert len(few) >= ENOUGH_VOXELS
