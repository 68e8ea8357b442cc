"""Training data from real CT: nodules in their surroundings, and whole scans to keep quiet on.

Volumes of interest around LIDC nodules show what a nodule looks like and how far readers draw it.
They are cut around the nodule, which gives the place away; so their crops are shifted, and crops of
whole scans are looked at through windows as narrow. Whole real scans and the phantom's lungs show
what is no nodule, with nodules of train patients set into them. The phantom may stand in for all of
the real CT: see `medlib.baseline.training_sources`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np

from medlib.annotation.case import Case
from medlib.baseline.augment import Augmentation
from medlib.baseline.config import TrainConfig
from medlib.baseline.crops import Crop, Crops, DrawnCrops
from medlib.baseline.enlarged_nodules import NODULES_MM, enlarged, with_masses
from medlib.baseline.grafts import Graft, take
from medlib.baseline.grid import WorkingGrid
from medlib.baseline.outline import ZOOMS, widest_mm, width_mm, zoomed
from medlib.baseline.training_sources import VOI_FOLDER, VOI_LICENCE, TrainingSource, check_licence
from medlib.baseline.training_volume import (
    BACKGROUND,
    DENSE_HU,
    IGNORED,
    LESION,
    TrainingVolume,
    dense_voxels,
    flat_indices,
    prepare,
)
from medlib.cohorts import nodule_volumes as voi
from medlib.cohorts.cohort import Cohort
from medlib.cohorts.nodule_volumes import Voi, majority
from medlib.cohorts.whole_scans import RealScan
from medlib.errors import DataError, OverlapError
from medlib.images.lungs import lung_field
from medlib.images.volume import sphere_diameter_mm

SLICE_SPACINGS_MM = (2.5, 5.0)  # nodules are seen as in the phantom and as in the whole scans
VOI_LESION_SHARE = 0.65  # of the crops that the search sees of them; the rest shows what is around
MASSES_IN_SCANS = 64  # few scans, each shown with many masses ...
MASSES_PER_PHANTOM = 2  # ... and many phantom patients, each with few
BOX_MARGIN_PX = 8
BOX_MARGIN_SLICES = 1


def prepare_voi(
    found: Voi, config: TrainConfig, slice_spacing_mm: float, *, by_share: bool = False
) -> TrainingVolume:
    """Bring a volume of interest to the working grid; the target is the readers' majority.

    Parameters
    ----------
    found : Voi
    config : TrainConfig
    slice_spacing_mm : float
        Thinner slices are averaged to about this.
    by_share : bool
        The target is the share of readers who marked a voxel instead: where they disagree, the
        network is asked how much.
    """
    grid = WorkingGrid.of(
        found.volume.hu.shape,
        found.volume.spacing_mm,
        config.model_copy(update={"slice_spacing_mm": slice_spacing_mm}),
    )
    hu = grid.from_source(found.volume.hu)
    lesion = grid.from_source(majority(found.readers)) >= 0.5
    seen = grid.from_source(np.asarray(found.readers.any(axis=0))) > 0
    everywhere = np.arange(hu.size, dtype=np.int32)
    return TrainingVolume(
        patient_id=found.patient_id,
        hu=np.rint(hu).astype(np.int16),
        target=(
            grid.from_source(found.readers.mean(axis=0))
            if by_share
            else np.where(lesion, LESION, BACKGROUND).astype(np.uint8)
        ),
        lesions=(np.argwhere(lesion),) if lesion.any() else (),
        lung=everywhere,
        dense=dense_voxels(hu, grid.spacing_mm, ~lesion, seen, config),
        aerated=flat_indices(hu <= DENSE_HU),
        is_window=True,
    )


def prepare_scan(scan: RealScan, config: TrainConfig) -> TrainingVolume:
    """Bring a whole scan to the working grid; what lies in a box is left out of the loss.

    Raises
    ------
    DataError
        If its licence does not allow to train on it.
    """
    check_licence(scan.case_id, scan.licence)
    grid = WorkingGrid.of(scan.volume.hu.shape, scan.volume.spacing_mm, config)
    hu = grid.from_source(scan.volume.hu)
    lung = lung_field(hu, grid.spacing_mm)
    target = np.full(grid.shape, BACKGROUND, dtype=np.uint8)
    tumour = grid.from_source(scan.tumour) >= 0.5
    if scan.outlined:
        target[tumour] = LESION
    else:
        for z, y, x in _boxes(tumour):
            target[z, y, x] = IGNORED
    looked_at = lung & (target == BACKGROUND)
    return TrainingVolume(
        patient_id=scan.case_id,
        hu=np.rint(hu).astype(np.int16),
        target=target,
        lesions=(np.argwhere(tumour),) if scan.outlined else (),
        lung=flat_indices(looked_at),
        dense=dense_voxels(hu, grid.spacing_mm, looked_at, target != BACKGROUND, config),
        aerated=flat_indices(looked_at & (hu <= DENSE_HU)),
    )


def _boxes(inside: np.ndarray) -> Iterable[tuple[slice, slice, slice]]:
    """Yield the box of each marked slice, widened, and a slice more at both ends."""
    for z in np.flatnonzero(inside.any(axis=(1, 2))):
        rows, columns = (np.flatnonzero(inside[z].any(axis=axis)) for axis in (1, 0))
        yield (
            slice(max(z - BOX_MARGIN_SLICES, 0), z + BOX_MARGIN_SLICES + 1),
            slice(max(rows[0] - BOX_MARGIN_PX, 0), rows[-1] + 1 + BOX_MARGIN_PX),
            slice(max(columns[0] - BOX_MARGIN_PX, 0), columns[-1] + 1 + BOX_MARGIN_PX),
        )


def prepare_phantom(case: Case, config: TrainConfig, known: set[str]) -> TrainingVolume:
    """Prepare a phantom patient; lesions with the outline of a LIDC patient not in `known` go.

    A phantom's lesions have the outlines of real nodules. Those of patients that are kept for
    tuning or testing are left out of the loss.
    """
    volume = prepare(case, config)
    origins = case.lesions["origin"].str.split("/").str[0]
    unknown = case.lesions.loc[~origins.isin(known), "label"]
    if unknown.empty:
        return volume
    grid = WorkingGrid.of(case.volume.hu.shape, case.volume.spacing_mm, config)
    hidden = grid.from_source(np.isin(case.lesion_labels, unknown.to_numpy())) > 0
    return replace(
        volume,
        target=np.where(hidden, IGNORED, volume.target).astype(np.uint8),
        lesions=tuple(voxels for voxels in volume.lesions if not hidden[tuple(voxels.T)].any()),
    )


def phantom_volumes(
    phantom: Cohort,
    split: str,
    config: TrainConfig,
    grids: Sequence[TrainConfig],
    known: set[str] | None = None,
) -> list[TrainingVolume]:
    """Prepare phantom patients of one part, as many as `phantom_patients` allows, on each grid.

    Lesions stay that have the outline of a patient in `known`, by default of the same part.
    """
    known = voi.patients_of(split) if known is None else known
    cases = islice(phantom.cases(split), config.phantom_patients)
    return [prepare_phantom(case, grid, known) for case in cases for grid in grids]


class MixedCrops(DrawnCrops):
    """Crops from several sources, each with its share.

    Parameters
    ----------
    sources : sequence of (float, DrawnCrops)
        Share and source; shares are relative.
    config, length, seed, augmentation
        As `DrawnCrops` takes them.
    """

    def __init__(
        self,
        sources: Sequence[tuple[float, DrawnCrops]],
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
    """Crops of volumes of interest, mirrored and turned: so narrow a view shows no side."""

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


def phantom_share(config: TrainConfig) -> float:
    """Return the share of the crops that real CT and masses leave to the phantom."""
    return round(1 - config.voi_crops - config.scan_crops - config.mass_crops, 6)


def real_crops(
    source: TrainingSource, phantom: Cohort, config: TrainConfig
) -> tuple[DrawnCrops, DrawnCrops, dict[str, list[str]]]:
    """Prepare the crops that a network is trained and tuned on.

    Parameters
    ----------
    source : TrainingSource
        Where it has no whole scans, the phantom stands in for them.
    phantom : Cohort
    config : TrainConfig
        `voi_crops`, `scan_crops` and `mass_crops` are the shares of volumes of interest, of whole
        scans and of masses; the phantom has the rest.

    Returns
    -------
    crops, tune_crops : DrawnCrops
    patients : dict
        The patients of ``train`` and ``tune``.

    Raises
    ------
    OverlapError
        If a patient would stand in both.
    DataError
        If the licence of a scan does not allow to train on it.
    """
    check_licence(VOI_FOLDER, VOI_LICENCE)
    patients: dict[str, list[str]] = {}
    made: dict[str, list[tuple[float, DrawnCrops]]] = {}
    for split in ("train", "tune"):
        vois = source.training_vois(split)
        windows = [
            prepare_voi(found, config, spacing) for found in vois for spacing in SLICE_SPACINGS_MM
        ]
        scans = [prepare_scan(scan, config) for scan in source.read_scans(split)]
        synthetic = phantom_volumes(phantom, split, config, [config])
        as_drawn = config if split == "train" else config.model_copy(update={"graft_share": 0.0})
        thin, thick = (
            _grafts(vois, config, spacing) if split == "train" else []
            for spacing in SLICE_SPACINGS_MM
        )
        nodules = config.model_copy(update={"graft_share": 0.0, "lesion_share": VOI_LESION_SHARE})
        patients[split] = sorted({volume.patient_id for volume in (*windows, *scans, *synthetic)})
        rest = phantom_share(config)
        whole, grafts = (scans, thick) if scans else (synthetic, thin)
        made[split] = [
            (config.voi_crops, WindowCrops(windows, nodules, 0, config.seed, grafts=[])),
            (config.scan_crops, Crops(whole, as_drawn, 0, config.seed, grafts=grafts)),
            (rest, Crops(synthetic, as_drawn, 0, config.seed, grafts=thin)),
        ]
        if config.mass_crops:
            made[split] += _mass_crops(source, phantom, vois, split, config)
    return (*_mixed(made, patients, config), patients)


def _mass_crops(
    source: TrainingSource, phantom: Cohort, vois: list[Voi], split: str, config: TrainConfig
) -> list[tuple[float, DrawnCrops]]:
    """Return the crops seen from afar, half of whole scans and half of the phantom, with masses.

    The phantom's own lesions are left out of the loss: from afar nobody looks for what is small. So
    crops without a mass lie on anything dense, not on what looks like a nodule.

    Raises
    ------
    DataError
        If no nodule of this part can be enlarged.
    """
    far = zoomed(config, ZOOMS[-1]).model_copy(
        update={"graft_share": 0.0, "window_share": 0.0, "hard_hu": 0.0}
    )
    masses = [mass for found in vois if (mass := mass_of(found, far)) is not None]
    if not masses:
        smallest, largest = NODULES_MM
        raise DataError(
            f"no {split} nodule is of soft tissue and {smallest:g} to {largest:g} mm wide: masses "
            "are made of such; a profile with mass_crops of 0 trains without"
        )
    scans = [prepare_scan(scan, far) for scan in source.read_scans(split)]
    synthetic = phantom_volumes(phantom, split, far, [far], known=set())
    places = [(scans, MASSES_IN_SCANS)] if scans else []
    places.append((synthetic, MASSES_PER_PHANTOM * len(synthetic)))
    crops: list[tuple[float, DrawnCrops]] = []
    for k, (volumes, n) in enumerate(places):
        shown = with_masses(volumes, masses, n, np.random.default_rng((config.seed, k)))
        share = config.mass_crops / len(places)
        crops.append((share, Crops(shown, far, 0, config.seed, grafts=[])))
    return crops


def mass_of(found: Voi, far: TrainConfig) -> Graft | None:
    """Enlarge the nodule of a volume of interest to a mass.

    Parameters
    ----------
    found : Voi
    far : TrainConfig
        Of the grid that the mass is set into.

    Returns
    -------
    Graft or None
        None if the nodule is too small, too large or not of soft tissue.
    """
    spacing_mm = found.volume.spacing_mm
    nodule = majority(found.readers)
    smallest, largest = NODULES_MM
    if not smallest <= sphere_diameter_mm(float(nodule.sum() * np.prod(spacing_mm))) <= largest:
        return None
    # Thicker slices stay as they are: in them a mass is longer than it should be.
    far_mm = (far.slice_spacing_mm, far.in_plane_spacing_mm, far.in_plane_spacing_mm)
    return enlarged(found.volume.hu.astype(np.float32), nodule, spacing_mm, far_mm)


def _mixed(
    made: dict[str, list[tuple[float, DrawnCrops]]],
    patients: dict[str, list[str]],
    config: TrainConfig,
) -> tuple[DrawnCrops, DrawnCrops]:
    """Mix the sources of the train and of the tune part, which may share no patient."""
    both = set(patients["train"]) & set(patients["tune"])
    if both:
        raise OverlapError(f"patient {min(both)} stands in train and in tune; mend the split")
    length = config.steps * config.batch_size
    return (
        MixedCrops(made["train"], config, length, config.seed, Augmentation(config.augmentation)),
        MixedCrops(made["tune"], config, config.tune_crops, config.seed),
    )


class OutlineData(NamedTuple):
    """What a network for outlines learns from, in one part.

    Attributes
    ----------
    nodules : tuple of (float, list of TrainingVolume)
        Volumes of interest on one grid, with their share of the crops of nodules: seen at each of
        `medlib.baseline.outline.ZOOMS`, and as in a scan with thick slices.
    scans : list of TrainingVolume
        Whole scans, for what is no nodule.
    phantom : list of TrainingVolume
        Phantom patients, at each zoom.
    patients : list of str
    """

    nodules: tuple[tuple[float, list[TrainingVolume]], ...]
    scans: list[TrainingVolume]
    phantom: list[TrainingVolume]
    patients: list[str]


def outline_data(
    source: TrainingSource, phantom: Cohort | None, config: TrainConfig
) -> dict[str, OutlineData]:
    """Prepare the ``train`` and the ``tune`` part for a network for outlines.

    A nodule is seen through a window that it fits, see `medlib.baseline.outline.widest_mm`; the
    phantom at each zoom, whatever the size of its lesions.

    Parameters
    ----------
    source : TrainingSource
    phantom : Cohort or None
        Not needed where `voi_crops` and `scan_crops` leave nothing to it.
    config : TrainConfig
    """
    check_licence(VOI_FOLDER, VOI_LICENCE)
    near, far = ZOOMS
    grids = [zoomed(config, zoom) for zoom in ZOOMS]
    thick = config.model_copy(update={"slice_spacing_mm": SLICE_SPACINGS_MM[-1]})
    # Grid, the widths that are seen through it, share of the crops of nodules.
    views = (
        (config, (0.0, widest_mm(config, near)), 0.7),
        (grids[1], (widest_mm(config, near) / 2, widest_mm(config, far)), 0.15),
        (thick, (0.0, widest_mm(config, near)), 0.15),
    )
    data = {}
    for split in ("train", "tune"):
        vois = source.training_vois(split)
        widths = [width_mm(majority(found.readers), found.volume.spacing_mm) for found in vois]
        nodules = tuple(
            (
                share,
                [
                    prepare_voi(found, seen, seen.slice_spacing_mm, by_share=True)
                    for found, width in zip(vois, widths, strict=True)
                    if narrowest <= width <= widest
                ],
            )
            for seen, (narrowest, widest), share in views
        )
        scans = [prepare_scan(scan, config) for scan in source.read_scans(split)]
        synthetic: list[TrainingVolume] = []
        if phantom is not None:
            synthetic = phantom_volumes(phantom, split, config, grids)
        patients = {found.patient_id for found in vois}
        patients |= {volume.patient_id for volume in [*scans, *synthetic]}
        data[split] = OutlineData(nodules, scans, synthetic, sorted(patients))
    return data


def outline_crops(
    data: Mapping[str, OutlineData], config: TrainConfig
) -> tuple[DrawnCrops, DrawnCrops, dict[str, list[str]]]:
    """Make the crops that a network for outlines is trained and tuned on.

    They are centred, give or take `jitter_px`, on a nodule; the others lie on a vessel or a wall,
    in the same volumes and in whole scans (where there are none, in the phantom), where there may
    be nothing to draw.

    Parameters
    ----------
    data : mapping
        Of `outline_data`.
    config : TrainConfig

    Returns
    -------
    crops, tune_crops, patients
        As `real_crops` returns them.

    Raises
    ------
    DataError
        If the configuration leaves a share to the phantom and the data hold none.
    """
    empty = config.model_copy(update={"lesion_share": 0.0})
    rest = phantom_share(config)
    made: dict[str, list[tuple[float, DrawnCrops]]] = {}
    for split, part in data.items():
        if rest and not part.phantom:
            raise DataError(f"{rest:.0%} of the crops are the phantom's, and no phantom was given")
        sources = [
            *((config.voi_crops * share, volumes, config) for share, volumes in part.nodules),
            (config.scan_crops, part.scans or part.phantom, empty),
            (rest, part.phantom, config),
        ]
        made[split] = [
            (share, WindowCrops(volumes, drawn, 0, config.seed, grafts=[]))
            for share, volumes, drawn in sources
            if share
        ]
    patients = {split: part.patients for split, part in data.items()}
    return (*_mixed(made, patients, config), patients)


def _grafts(vois: list[Voi], config: TrainConfig, slice_spacing_mm: float) -> list[Graft]:
    """Take the nodules out of their volumes, for scans with this distance of slices."""
    found = (prepare_voi(each, config, slice_spacing_mm) for each in vois)
    return [take(volume.hu, lesion) for volume in found for lesion in volume.lesions]
