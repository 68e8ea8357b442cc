"""`medlib assist`: from a folder of DICOM to a mask and a report for the human who reviews it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlib.annotation.drawings import Author
from medlib.errors import InputError
from medlib.files import put_in_place
from medlib.images.dicom import read_series
from medlib.images.image_files import DESCRIPTION_BYTES, write_mask
from medlib.images.volume import Volume
from medlib.progress import track
from medlib.review.measure import center_xyz_mm, max_diameter_mm
from medlib.review.priority import case_priority
from medlib.review.schema import DECISIONS_FILE, MASK_FILE, REPORT_FILE, Lesion, Report

if TYPE_CHECKING:
    from medlib.baseline.candidates import Prediction
    from medlib.review.model import ReportingModel

UID = re.compile(r"[0-9.]{1,64}")
MM3_PER_ML = 1000
THICK_SLICES = 1.5  # times the slice spacing of training


def assist(input_path: Path, out_dir: Path, run_dir: Path | None = None) -> list[Path]:
    """Mark lung lesions in every CT series of a folder, or in a DICOM file.

    A series gets a folder in `out_dir`, named by its SeriesInstanceUID, with ``mask.nii.gz`` (on
    the source grid; a voxel's value is the lesion's id) and ``report.json``; nothing in them names
    the patient. An earlier result for the same series is replaced, unless a reviewer has already
    answered it. Returned are the folders written: all of them or, after an error, none.

    The model is that of `run_dir`, or of `medlib.review.model.default_run`.

    Raises
    ------
    InputError
        If the images cannot be read safely, or the results cannot be written.
    RunError
        If there is no run, or it is not evaluated.
    """
    volumes = read_series(input_path)
    targets = _targets(volumes, out_dir)
    # Torch takes seconds to import; images that cannot be read are refused before that.
    from medlib.baseline.inference import predict_volume
    from medlib.review.model import load_model

    model = load_model(run_dir)
    author = Author("algorithm", model.identity.name, weights_sha256=model.identity.sha256)
    results = []
    for volume in track(volumes, "series"):
        found = predict_volume(model.network, model.config, volume, outliner=model.outliner)
        results.append((volume, *report_on(volume, found, model)))
    try:
        with ExitStack() as all_or_nothing:
            for target, (volume, report, mask) in zip(targets, results, strict=True):
                folder = all_or_nothing.enter_context(put_in_place(target))
                folder.mkdir()
                write_mask(mask, volume, folder / MASK_FILE, author.brief(DESCRIPTION_BYTES))
                text = report.model_dump_json(indent=2) + "\n"
                (folder / REPORT_FILE).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{out_dir}: cannot write here ({error.strerror or error}); choose another --out"
        ) from error
    return targets


def report_on(
    volume: Volume, prediction: Prediction, model: ReportingModel
) -> tuple[Report, NDArray[np.uint16]]:
    """Report what a prediction holds at the operating point.

    The mask [z, y, x] is 0 outside, else the id of the lesion in the report.
    """
    candidates = prediction.candidates
    kept = candidates[candidates["score"] >= model.operating_point].sort_values(
        "score", ascending=False, kind="stable"
    )
    boxes = ndimage.find_objects(prediction.labels)
    mask = np.zeros(prediction.labels.shape, dtype=np.uint16)
    lesions = []
    for number, candidate in enumerate(kept.itertuples(), start=1):
        box = boxes[int(candidate.candidate_id) - 1]
        inside = prediction.labels[box] == candidate.candidate_id
        mask[box][inside] = number
        voxels = np.argwhere(inside) + [part.start for part in box]
        lesions.append(
            Lesion(
                id=number,
                volume_ml=len(voxels) * volume.voxel_volume_mm3 / MM3_PER_ML,
                max_diameter_mm=max_diameter_mm(voxels, volume.spacing_mm),
                score=candidate.score,
                center_xyz_mm=center_xyz_mm(voxels, volume),
                slices=(int(voxels[:, 0].min()), int(voxels[:, 0].max())),
            )
        )
    report = Report(
        series_instance_uid=volume.identity.series_instance_uid,
        model=model.identity,
        operating_point=model.operating_point,
        lesions=tuple(lesions),
        review_priority=case_priority([ranked(one) for one in lesions], prediction.not_looked_at),
        not_looked_at=prediction.not_looked_at,
        risk_statement=model.risk_statement,
        warnings=(
            *volume.warnings,
            *_series_warnings(volume, prediction, len(lesions), model),
            *model.warnings,
        ),
    )
    return report, mask


def ranked(lesion: Lesion) -> dict[str, float]:
    """Return what `medlib.review.priority` asks of a lesion."""
    return {"lesion_score": lesion.score, "size_mm": lesion.max_diameter_mm}


def _series_warnings(
    volume: Volume, prediction: Prediction, n_lesions: int, model: ReportingModel
) -> Iterator[str]:
    """Say what about this series makes the result weaker than on held-out patients."""
    slice_spacing_mm = volume.spacing_mm[0]
    if volume.hu.shape[0] == 1:
        yield "single slice: volume and diameter in 3D mean little, neighbours were not seen"
    elif slice_spacing_mm > THICK_SLICES * model.config.slice_spacing_mm:
        yield (
            f"slices lie {slice_spacing_mm:.1f} mm apart, the model was trained at about "
            f"{model.config.slice_spacing_mm:.1f} mm: small lesions may be missed"
        )
    if prediction.not_looked_at:
        yield (
            f"nothing was looked at: {prediction.not_looked_at}. An empty result says nothing "
            "about this series"
        )
    yield from prediction.warnings
    if n_lesions > model.most_marks:
        yield (
            f"{n_lesions} marks, while no held-out scan had more than {model.most_marks}: this "
            "series may differ from all that the model was tested on"
        )


def _targets(volumes: list[Volume], out_dir: Path) -> list[Path]:
    """Name a result folder for each series, or say why it cannot be."""
    if out_dir.exists() and not out_dir.is_dir():
        raise InputError(f"{out_dir}: is a file; name a folder for the results")
    uids = [volume.identity.series_instance_uid for volume in volumes]
    for uid in uids:
        if not UID.fullmatch(uid) or not uid.strip("."):
            raise InputError(
                f"SeriesInstanceUID {uid!r} is not a DICOM UID (digits and dots, at most 64); "
                "the file may be damaged"
            )
        if uids.count(uid) > 1:
            raise InputError(f"series {uid} was found more than once; give one copy of it")
        if (out_dir / uid / DECISIONS_FILE).exists():
            raise InputError(
                f"{out_dir / uid}: a reviewer has answered this report; choose another --out"
            )
    return [out_dir / uid for uid in uids]
