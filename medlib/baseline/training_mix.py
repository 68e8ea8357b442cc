"""What is drawn from the training volumes: crops of each source, in its share.

Windows are cut around the nodule, which gives the place away; so their crops are shifted, and crops
of whole scans are looked at through windows as narrow. Nodules of train patients are set into whole
scans and the phantom's lungs. Where a cohort has no whole scans, the phantom stands in for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from medlib.annotation.case import Case
from medlib.baseline.augment import Augmentation
from medlib.baseline.config import TrainConfig
from medlib.baseline.crops import Crop, Crops, DrawnCrops
from medlib.baseline.enlarged_nodules import NODULES_MM, with_masses
from medlib.baseline.grafts import take
from medlib.baseline.outline import ZOOMS, widest_mm, width_mm, zoomed
from medlib.baseline.prepared_cases import (
    mass_of,
    phantom_volumes,
    prepare_scan,
    prepare_window,
    training_volumes,
)
from medlib.baseline.training_sources import check_licences, training_windows, whole_scans
from medlib.baseline.training_volume import TrainingVolume
from medlib.cohorts.cohort import Cohort
from medlib.errors import DataError, OverlapError

SLICE_SPACINGS_MM = (2.5, 5.0)  # nodules are seen as in the phantom and as in the whole scans
WINDOW_LESION_SHARE = 0.65  # of the crops the search sees of windows; the rest shows surroundings
MASSES_IN_SCANS = 64  # few scans, each shown with many masses ...
MASSES_PER_PHANTOM = 2  # ... and many phantom patients, each with few
Shares = list[tuple[float, DrawnCrops]]  # relative


class Mix(NamedTuple):
    """The crops that a network is trained and tuned on, and the patients by part."""

    train: DrawnCrops
    tune: DrawnCrops
    patients: dict[str, list[str]]


class MixedCrops(DrawnCrops):
    """Crops from several sources, each with its share."""

    def __init__(
        self,
        sources: Shares,
        config: TrainConfig,
        length: int,
        seed: int,
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__(config, length, seed, augmentation)
        self.sources = [source for _, source in sources]
        shares = np.array([share for share, _ in sources], dtype=float)
        self.shares = shares / shares.sum()

    def draw(self, rng: np.random.Generator) -> Crop:
        """Draw from one of the sources."""
        return self.sources[int(rng.choice(len(self.sources), p=self.shares))].draw(rng)


class WindowCrops(Crops):
    """Crops of windows, mirrored and turned: so narrow a view shows no side."""

    def __init__(self, volumes: list[TrainingVolume], config: TrainConfig) -> None:
        super().__init__(volumes, config, grafts=[])

    def draw(self, rng: np.random.Generator) -> Crop:
        """Draw a crop and turn it, in plane and head to foot."""
        image, target = super().draw(rng)
        turns, flip, upside_down = int(rng.integers(4)), rng.random() < 0.5, rng.random() < 0.5
        image, target = np.rot90(image, turns), np.rot90(target, turns)
        if flip:
            image, target = image[:, ::-1], target[:, ::-1]
        if upside_down:
            image = image[:, :, ::-1]
        return np.ascontiguousarray(image), np.ascontiguousarray(target)


def patient_crops(cohort: Cohort, config: TrainConfig) -> Mix:
    """Prepare the crops of a cohort's patients, as they are; see `training_volumes`."""
    volumes = {split: training_volumes(cohort, config, split) for split in ("train", "tune")}
    length, augmentation = config.steps * config.batch_size, Augmentation(config.augmentation)
    as_they_are = config.model_copy(update={"graft_share": 0.0})
    patients = cohort.table.groupby("split")["patient_id"].unique()
    return Mix(
        Crops(volumes["train"], config, length, config.seed, augmentation),
        Crops(volumes["tune"], as_they_are, config.tune_crops, config.seed),
        {str(split): sorted(map(str, names)) for split, names in patients.items()},
    )


def search_crops(cohort: Cohort, phantom: Cohort, config: TrainConfig) -> Mix:
    """Prepare the crops for a network that searches whole scans.

    `voi_crops`, `scan_crops` and `mass_crops` of the configuration are the shares of windows, of
    whole scans and of masses; the phantom has the rest. Raises OverlapError for a patient in both
    parts, DataError where a licence does not allow to train.
    """
    check_licences(cohort)
    patients: dict[str, set[str]] = {}
    made: dict[str, Shares] = {}
    grids = [config.model_copy(update={"slice_spacing_mm": each}) for each in SLICE_SPACINGS_MM]
    of_windows = config.model_copy(update={"lesion_share": WINDOW_LESION_SHARE})
    for split in ("train", "tune"):
        nodules = training_windows(cohort, split)
        windows = [[prepare_window(nodule, grid) for grid in grids] for nodule in nodules]
        scans = [prepare_scan(scan, config) for scan in whole_scans(cohort, split)]
        synthetic = phantom_volumes(phantom, split, config, [config])
        thin, thick = (
            [take(each[k].hu, voxels) for each in windows for voxels in each[k].lesions]
            if split == "train"
            else []
            for k in range(len(grids))
        )
        seen = [volume for of_nodule in windows for volume in of_nodule]
        patients[split] = {volume.patient_id for volume in (*seen, *scans, *synthetic)}
        whole, grafts = (scans, thick) if scans else (synthetic, thin)
        made[split] = [
            (config.voi_crops, WindowCrops(seen, of_windows)),
            (config.scan_crops, Crops(whole, config, grafts=grafts)),
            (config.phantom_share, Crops(synthetic, config, grafts=thin)),
        ]
        if config.mass_crops:
            made[split] += _mass_crops(cohort, phantom, nodules, split, config)
    return _mixed(made, patients, config)


def _mass_crops(
    cohort: Cohort, phantom: Cohort, nodules: list[Case], split: str, config: TrainConfig
) -> Shares:
    """Return the crops seen from afar, half of whole scans and half of the phantom, with masses.

    The phantom's own lesions are left out of the loss: from afar nobody looks for what is small. So
    crops without a mass lie on anything dense, not on what looks like a nodule.
    """
    far = zoomed(config, ZOOMS[-1]).model_copy(update={"window_share": 0.0, "hard_hu": 0.0})
    masses = [mass for nodule in nodules if (mass := mass_of(nodule, far)) is not None]
    if not masses:
        smallest, largest = NODULES_MM
        raise DataError(
            f"no {split} nodule is of soft tissue and {smallest:g} to {largest:g} mm wide: masses "
            "are made of such; a profile with mass_crops of 0 trains without"
        )
    scans = [prepare_scan(scan, far) for scan in whole_scans(cohort, split)]
    synthetic = phantom_volumes(phantom, split, far, [far], known=set())
    places = [(scans, MASSES_IN_SCANS)] if scans else []
    places.append((synthetic, MASSES_PER_PHANTOM * len(synthetic)))
    crops: Shares = []
    for k, (volumes, n) in enumerate(places):
        shown = with_masses(volumes, masses, n, np.random.default_rng((config.seed, k)))
        crops.append((config.mass_crops / len(places), Crops(shown, far, grafts=[])))
    return crops


def _mixed(
    made: Mapping[str, Shares], patients: Mapping[str, set[str]], config: TrainConfig
) -> Mix:
    """Mix the sources of the train and of the tune part, which may share no patient."""
    if both := patients["train"] & patients["tune"]:
        raise OverlapError(f"patient {min(both)} stands in train and in tune; mend the split")
    length, augmentation = config.steps * config.batch_size, Augmentation(config.augmentation)
    return Mix(
        MixedCrops(made["train"], config, length, config.seed, augmentation),
        MixedCrops(made["tune"], config, config.tune_crops, config.seed),
        {split: sorted(names) for split, names in patients.items()},
    )


class OutlineData(NamedTuple):
    """What a network for outlines learns from, in one part.

    Windows are seen at each of `medlib.baseline.outline.ZOOMS`, and as in a scan with thick slices.
    """

    nodules: list[tuple[float, list[TrainingVolume]]]  # with a share of the crops of nodules
    scans: list[TrainingVolume]  # for what is no nodule
    phantom: list[TrainingVolume]  # at each zoom
    patients: set[str]


def outline_data(
    cohort: Cohort, phantom: Cohort | None, config: TrainConfig
) -> dict[str, OutlineData]:
    """Prepare the ``train`` and the ``tune`` part for a network for outlines.

    A nodule is seen through a window that it fits, see `medlib.baseline.outline.widest_mm`; the
    phantom at each zoom, whatever the size of its lesions. The phantom is not needed where
    `voi_crops` and `scan_crops` leave nothing to it.
    """
    check_licences(cohort)
    grids = [zoomed(config, zoom) for zoom in ZOOMS]
    near_mm, far_mm = (widest_mm(config, zoom) for zoom in ZOOMS)
    thick = config.model_copy(update={"slice_spacing_mm": SLICE_SPACINGS_MM[-1]})
    # Grid, the widths that are seen through it, share of the crops of nodules.
    views = (
        (config, (0.0, near_mm), 0.7),
        (grids[1], (near_mm / 2, far_mm), 0.15),
        (thick, (0.0, near_mm), 0.15),
    )
    data = {}
    for split in ("train", "tune"):
        windows = [
            (window, width_mm(window.reference, window.volume.spacing_mm))
            for window in training_windows(cohort, split)
        ]
        nodules: list[tuple[float, list[TrainingVolume]]] = []
        for grid, (narrowest, widest), share in views:
            fitting = [window for window, width in windows if narrowest <= width <= widest]
            seen = [prepare_window(window, grid, by_share=True) for window in fitting]
            nodules.append((share, seen))
        scans = [prepare_scan(scan, config) for scan in whole_scans(cohort, split)]
        synthetic = phantom_volumes(phantom, split, config, grids) if phantom else []
        patients = {window.patient_id for window, _ in windows}
        patients |= {volume.patient_id for volume in [*scans, *synthetic]}
        data[split] = OutlineData(nodules, scans, synthetic, patients)
    return data


def outline_crops(data: Mapping[str, OutlineData], config: TrainConfig) -> Mix:
    """Make the crops for a network for outlines, of `outline_data`.

    They are centred, give or take `jitter_px`, on a nodule; the others lie on a vessel or a wall,
    in the same volumes and in whole scans (where there are none, in the phantom), where there may
    be nothing to draw. Raises DataError if a share is left to the phantom and there is none.
    """
    empty, rest = config.model_copy(update={"lesion_share": 0.0}), config.phantom_share
    made: dict[str, Shares] = {}
    for split, part in data.items():
        if rest and not part.phantom:
            raise DataError(f"{rest:.0%} of the crops are the phantom's, and no phantom was given")
        sources = [
            *((config.voi_crops * share, volumes, config) for share, volumes in part.nodules),
            (config.scan_crops, part.scans or part.phantom, empty),
            (rest, part.phantom, config),
        ]
        made[split] = [
            (share, WindowCrops(volumes, seen)) for share, volumes, seen in sources if share
        ]
    return _mixed(made, {split: part.patients for split, part in data.items()}, config)
