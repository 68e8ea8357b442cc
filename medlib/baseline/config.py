"""Every choice of a training run, frozen: the same choices give the same run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from medlib.errors import RunError

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class TrainConfig(BaseModel):
    """What is trained on what, and how candidates are read from the result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: str
    cohort: str  # profile of the phantom cohort that it is trained on
    seed: int = 0

    # What the network sees
    in_plane_spacing_mm: PositiveFloat = 1.0
    slice_spacing_mm: PositiveFloat = 2.5  # thinner slices are averaged to about this
    n_slices: Count = 3
    hu_range: tuple[float, float] = (-1000.0, 400.0)  # clipped, then scaled to -1..1

    # Network
    encoder: str = "tu-tf_efficientnet_lite0"
    decoder_channels: tuple[int, ...] = (128, 64, 32, 16, 8)
    pretrained: bool = True
    head_first_steps: NonNegativeInt = 0  # the encoder stays as it was so long ...
    encoder_rate: PositiveFloat = 1.0  # ... and then learns at this times the rate

    # Crops
    crop_px: int = Field(default=96, ge=32, multiple_of=32)
    batch_size: int = Field(default=16, ge=2)
    lesion_share: Share = 0.5  # of the crops: centred near a required lesion
    graft_share: Share = 0.7  # of those: a copy set elsewhere
    dense_share: Share = 0.5  # of the others: centred on a vessel or a wall
    hard_hu: NonNegativeFloat = 0.0  # those centres answer so much to the dot filter
    jitter_px: NonNegativeInt = 32
    window_share: Share = 0.0  # of the crops of a scan: seen as through a window around a nodule
    voi_crops: Share = 0.0  # share drawn from real volumes of interest
    scan_crops: Share = 0.0  # share drawn from whole real scans
    mass_crops: Share = 0.0  # share seen from afar, with masses

    phantom_patients: Count | None = None  # beside real CT: at most so many

    augmentation: Literal["all", "shape", "intensity", "none"] = "all"

    # Optimisation
    steps: Count = 560
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 1e-2
    gradient_clip: PositiveFloat = 1.0
    loss: Literal["combined", "bce", "weighted-bce", "dice", "focal", "tversky"] = "combined"
    dice_weight: NonNegativeFloat = 0.5  # Dice over the voxels of all crops together
    crop_dice_weight: NonNegativeFloat = 0.5  # mean Dice of the crops with a lesion
    bce_weight: NonNegativeFloat = 1.0
    alarm_weight: NonNegativeFloat = 0.0  # the surest false voxels of each crop
    tune_every: Count = 50  # steps between two looks at the tune part
    tune_crops: Count = 96
    patience: Count = 4  # looks without a better tune loss before stopping
    keep: Literal["best", "last"] = "best"  # the weights of the best look, or those of the end
    # Processes that draw crops; by default none on a CPU, which trains meanwhile, and as many as
    # there are cores, less one, beside a GPU.
    n_workers: NonNegativeInt | None = None

    # Candidates
    lung_margin_mm: NonNegativeFloat = 2.0  # a lesion may reach so far beyond the lung
    candidate_level: float = Field(default=0.4, gt=0, lt=1)  # probability of a candidate's voxels
    min_diameter_mm: NonNegativeFloat = 2.5  # of the sphere of equal volume

    @property
    def phantom_share(self) -> float:
        """Of the crops: what real CT and masses leave to the phantom."""
        return round(1 - self.voi_crops - self.scan_crops - self.mass_crops, 6)

    @model_validator(mode="after")
    def _shares_are_no_more_than_all(self) -> TrainConfig:
        if self.phantom_share < 0:
            asked = 1 - self.phantom_share
            raise ValueError(f"voi_crops, scan_crops and mass_crops are {asked:g} of all crops")
        return self


PROFILES: dict[str, TrainConfig] = {
    "quick": TrainConfig(
        profile="quick",
        cohort="quick",
        crop_px=64,
        jitter_px=20,
        steps=560,
        learning_rate=2e-3,
        tune_every=70,
        tune_crops=128,
    ),
    "standard": TrainConfig(
        profile="standard",
        cohort="standard",
        steps=4000,
        tune_every=250,
        tune_crops=256,
        crop_px=128,
    ),
    "gpu": TrainConfig(
        profile="gpu",
        cohort="standard",
        in_plane_spacing_mm=0.7,
        decoder_channels=(256, 128, 64, 32, 16),
        steps=20_000,
        tune_every=500,
        tune_crops=512,
        crop_px=192,
        batch_size=64,
    ),
    # Finds lesions in whole scans ...
    "lidc": TrainConfig(
        profile="lidc",
        cohort="many",
        in_plane_spacing_mm=0.8,
        n_slices=5,
        crop_px=64,
        dense_share=0.7,
        hard_hu=10.0,
        jitter_px=20,
        window_share=0.5,
        voi_crops=0.35,
        scan_crops=0.25,
        mass_crops=0.15,
        alarm_weight=0.2,
        steps=12_000,
        learning_rate=2e-3,
        tune_every=1000,
        tune_crops=192,
        patience=100,  # the whole schedule: the last steps, at a small rate, gain most ...
        keep="last",  # ... in false alarms, which so few tune crops do not show
        candidate_level=0.3,
    ),
    # ... and draws the outline of each, in a window around it.
    "lidc-outline": TrainConfig(
        profile="lidc-outline",
        cohort="many",
        phantom_patients=18,  # they have a small share of the crops, and their grid is fine
        in_plane_spacing_mm=0.5,
        slice_spacing_mm=1.25,
        n_slices=7,
        crop_px=64,
        batch_size=32,
        jitter_px=6,
        lesion_share=0.75,
        dense_share=0.8,
        hard_hu=10.0,
        graft_share=0.0,
        voi_crops=0.77,
        scan_crops=0.13,  # the phantom has the rest
        steps=4000,
        learning_rate=3e-3,
        tune_every=400,
        tune_crops=320,
        patience=100,
    ),
}


OUTLINE_PROFILE = "{profile}-outline"
NOT_TO_CHANGE = ("profile", "cohort", "seed")  # they have options of their own, or name the data


def train_config(profile: str, seed: int = 0, changes: Sequence[str] = ()) -> TrainConfig:
    """Return the configuration of a profile with this seed, and fields changed by ``FIELD=VALUE``.

    Lists are given as JSON. Raises RunError for what is no profile, field or value.
    """
    if profile not in PROFILES:
        raise RunError(f"profile '{profile}' is unknown: choose one of {', '.join(PROFILES)}")
    config = PROFILES[profile].model_copy(update={"seed": seed})
    for change in changes:
        config = _changed(config, change)
    return config


def _changed(config: TrainConfig, change: str) -> TrainConfig:
    name, _, text = change.partition("=")
    fields = [field for field in TrainConfig.model_fields if field not in NOT_TO_CHANGE]
    if name not in fields or not text:
        raise RunError(
            f"'{change}' changes nothing: write FIELD=VALUE, with one of {', '.join(fields)}"
        )
    try:
        value: Any = json.loads(text)
    except ValueError:  # a word
        value = text
    try:
        return TrainConfig.model_validate({**config.model_dump(), name: value})
    except ValidationError as error:
        raise RunError(f"{name} cannot be '{text}': {error.errors()[0]['msg'].lower()}") from None
