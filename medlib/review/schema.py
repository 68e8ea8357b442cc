"""What `medlib assist` leaves behind for one series: the report and the files beside it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medlib.errors import DataError, InputError, first_fault
from medlib.review.priority import Priority
from medlib.scope import DISCLAIMER

REPORT_FILE = "report.json"
MASK_FILE = "mask.nii.gz"
DECISIONS_FILE = "decisions.jsonl"


class _Record(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        json_schema_serialization_defaults_required=True,
    )


class ModelIdentity(_Record):
    """Which weights spoke."""

    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the weights file")


class Lesion(_Record):
    """One region that the model marked at or above the operating point."""

    id: int = Field(ge=1, description="value of its voxels in mask.nii.gz")
    volume_ml: float = Field(gt=0)
    max_diameter_mm: float = Field(
        gt=0,
        description="maximum Feret diameter in 3D: largest distance between the centres of two of "
        "its voxels, at least one pixel",
    )
    score: float = Field(ge=0, le=1)
    center_xyz_mm: tuple[float, float, float] = Field(
        description="mean of its voxel centres, DICOM patient coordinates (LPS+)"
    )
    slices: tuple[int, int] = Field(
        description="first and last slice, counted from 0 in ascending z, both included"
    )


class Report(_Record):
    """What the model says about one CT series, for the human who reviews it."""

    series_instance_uid: str = Field(pattern=r"^[0-9.]{1,64}$")
    model: ModelIdentity
    operating_point: float = Field(ge=0, description="lowest score of a lesion")
    lesions: tuple[Lesion, ...] = Field(description="highest score first")
    review_priority: Priority
    not_looked_at: str = Field(
        default="",
        description="why the model searched nothing, if so: then no lesion means nothing",
    )
    risk_statement: str = Field(description="about the model on held-out patients, not this case")
    warnings: tuple[str, ...]
    disclaimer: str = DISCLAIMER


def read_report(folder: Path) -> Report:
    """Read the report in the result folder of a series.

    Raises
    ------
    InputError
        If there is none.
    DataError
        If it is not a valid report.
    """
    path = folder / REPORT_FILE
    if not path.is_file():
        raise InputError(f"{path}: no report here; make one with: medlib assist INPUT --out DIR")
    try:
        return Report.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise DataError(
            f"{path}: not a report ({first_fault(error)}); make it again with: "
            "medlib assist INPUT --out DIR"
        ) from None
