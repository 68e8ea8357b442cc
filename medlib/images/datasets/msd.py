"""Medical Segmentation Decathlon: a task folder with dataset.json and NIfTI images and masks."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

import nibabel
import numpy as np
import pandas as pd

from medlib import progress
from medlib.errors import DataError
from medlib.images.datasets.table import finished, read_json

_EXPECTED = "a task of the Medical Segmentation Decathlon"
_AFFINE_TOLERANCE_MM = 0.1  # headers of images and masks were rounded apart


def read_msd(folder: Path, *, site: str | None = None, patients: str = "") -> pd.DataFrame:
    """Read a task folder: ``dataset.json``, ``imagesTr``, ``labelsTr``, ``imagesTs``.

    Every mask is read, so that what the table says is what the files hold: this takes about a
    second a CT.

    Parameters
    ----------
    folder : Path
        ``Task06_Lung``, for instance.
    site : str, optional
        Where the images were taken, where that is known; the files do not say.
    patients : str
        Regular expression whose first group is the patient in the name of an image. Left out: an
        image is a patient of its own, as in most tasks; where a patient has several, say so here.

    Returns
    -------
    DataFrame
        As `medlib.images.datasets` says, a row an image and a class of the mask other than 0;
        `label` is 1 where the mask has a voxel of that class, NaN for the test images, which have
        no mask. `split` is ``train`` or ``test``.

    Raises
    ------
    DataError
        If ``dataset.json`` or an image it names is missing or unreadable, a mask lies on another
        grid than its image, or holds a value that ``dataset.json`` does not name.
    OverlapError
        If a patient stands in train and test.
    """
    folder = Path(folder)
    source = folder / "dataset.json"
    content = read_json(source, f"{_EXPECTED} with dataset.json")
    classes = _classes(content, source)
    training, test = content.get("training", []), content.get("test", [])
    if not (isinstance(training, list) and isinstance(test, list)):
        raise DataError(f"{source}: 'training' and 'test' are no lists; expected {_EXPECTED}")
    rows: list[dict[str, Any]] = []
    for entry in progress.track(training, f"masks of {folder.name}"):
        if not (isinstance(entry, dict) and {"image", "label"} <= set(entry)):
            raise DataError(
                f"{source}: a training entry is {entry!r}; expected an 'image' and a 'label'; "
                "fetch it again"
            )
        image, mask = _inside(folder, entry["image"]), _inside(folder, entry["label"])
        present = _values(image, mask)
        if strange := present - {0, *classes}:
            raise DataError(
                f"{mask}: has the value {min(strange)}, which dataset.json does not name; expected "
                f"0 and {', '.join(map(str, classes))}; fetch the file again"
            )
        rows += [
            _row(image, mask, name, float(value in present), "train")
            for value, name in classes.items()
        ]
    for entry in test:
        image = _inside(folder, entry["image"] if isinstance(entry, dict) else entry)
        _header(image)
        rows += [_row(image, None, name, np.nan, "test") for name in classes.values()]
    for row in rows:
        row |= {"site": site, "patient_id": _patient(row["image_id"], patients)}
    return finished(rows, source)


def _classes(content: dict[str, Any], source: Path) -> dict[int, str]:
    """Return the classes other than background: value in the mask, name."""
    labels = content.get("labels")
    try:
        classes = {int(value): str(name) for value, name in dict(labels or {}).items()}
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{source}: 'labels' is {labels!r}; expected values with names, as in "
            '{"0": "background", "1": "cancer"}; fetch it again'
        ) from error
    classes.pop(0, None)
    if not classes:
        raise DataError(
            f"{source}: names no class other than background; expected {_EXPECTED}; fetch it again"
        )
    return classes


def _inside(folder: Path, name: object) -> Path:
    """Return the path of a file that dataset.json names, which has to lie in the folder."""
    path = PurePosixPath(str(name))
    if path.is_absolute() or ".." in path.parts:
        raise DataError(
            f"{folder / 'dataset.json'}: names {str(name)!r}; expected a file inside the folder"
        )
    return folder / path


def _header(path: Path) -> Any:
    try:
        return nibabel.load(path)
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: no such file, but dataset.json names it; fetch the task again"
        ) from error
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a readable NIfTI file; fetch it again") from error


def _values(image_path: Path, mask_path: Path) -> set[int]:
    """Return the values of a mask after comparing its grid with that of its image."""
    image, mask = _header(image_path), _header(mask_path)
    if image.shape[:3] != mask.shape[:3]:  # a fourth axis is the sequence of an MR study
        raise DataError(
            f"{mask_path}: the mask has {mask.shape[:3]} voxels, its image {image.shape[:3]}; "
            "expected one grid; fetch both again"
        )
    corners = np.array([[0, 0, 0, 1.0], [*(n - 1 for n in image.shape[:3]), 1.0]]).T
    apart = float(np.abs((image.affine - mask.affine) @ corners).max())
    if apart > _AFFINE_TOLERANCE_MM * max(1.0, max(image.shape[:3]) / 100):
        raise DataError(
            f"{mask_path}: the mask lies {apart:.1f} mm from its image; expected one grid; fetch "
            "both again"
        )
    try:
        values = np.unique(np.asanyarray(mask.dataobj))
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{mask_path}: cut off or damaged; fetch it again") from error
    if not np.array_equal(values, np.rint(values)):
        raise DataError(f"{mask_path}: holds fractions; expected whole numbers, a class each")
    return {int(value) for value in values}


def _row(image: Path, mask: Path | None, finding: str, label: float, split: str) -> dict[str, Any]:
    return {
        "image_id": image.name.removesuffix(".gz").removesuffix(".nii"),
        "image_path": str(image),
        "mask_path": None if mask is None else str(mask),
        "finding": finding,
        "label": label,
        "label_weight": 0.0 if np.isnan(label) else 1.0,
        "split": split,
    }


def _patient(image_id: str, pattern: str) -> str:
    if not pattern:
        return image_id
    found = re.search(pattern, image_id)
    if found is None or not found.groups():
        raise DataError(
            f"the pattern {pattern!r} finds no patient in {image_id!r}; expected a regular "
            "expression with one group"
        )
    return str(found.group(1))
