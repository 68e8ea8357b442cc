from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from medlib import cli
from medlib.cohorts.chexpert import COLUMNS, FINDINGS, read_chexpert
from medlib.errors import DataError, OverlapError

EDEMA = [1.0, 0.0, -1.0, None, -1.0, 1.0]
PATHS = [
    "train/patient00001/study1/view1_frontal.jpg",
    "train/patient00002/study1/view1_frontal.jpg",
    "train/patient00002/study2/view1_frontal.jpg",
    "train/patient00002/study2/view2_lateral.jpg",
    "train/patient00003/study1/view1_frontal.jpg",
    "train/patient00004/study1/view1_frontal.jpg",
]


def write(folder, name="train.csv", paths=PATHS, edema=EDEMA, top="CheXpert-v1.0-small"):
    """A CSV with the columns of the real one, in its own folder."""
    table = pd.DataFrame({"Path": [f"{top}/{path}" for path in paths]})
    table[["Sex", "Age", "Frontal/Lateral", "AP/PA"]] = ["Female", 68, "Frontal", "AP"]
    for finding in FINDINGS:
        table[finding] = edema if finding == "Edema" else np.nan
    (folder / top).mkdir(exist_ok=True)
    table.to_csv(folder / top / name, index=False)
    return folder / top / name


@pytest.fixture
def csv(tmp_path):
    return write(tmp_path)


@pytest.mark.parametrize(
    ("policy", "labels", "weights"),
    [
        ("U-Ones", [1, 0, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1]),
        ("U-Zeros", [1, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1]),
        ("ignore", [1, 0, np.nan, 0, np.nan, 1], [1, 1, 0, 1, 0, 1]),
    ],
)
def test_policies(csv, policy, labels, weights):
    table = read_chexpert(csv, policy, findings=["Edema"])
    assert table["label"].tolist() == pytest.approx(labels, nan_ok=True)
    assert table["label_weight"].tolist() == pytest.approx(weights)


def test_soft_labels_are_drawn_within_their_range_and_the_same_again(tmp_path):
    paths = [f"train/patient{k:05d}/study1/view1_frontal.jpg" for k in range(400)]
    csv = write(tmp_path, paths=paths, edema=[-1.0] * 400)
    labels = read_chexpert(csv, "soft", findings=["Edema"])["label"]
    assert labels.between(0.55, 0.85).all()
    assert labels.mean() == pytest.approx(0.7, abs=0.02)
    assert labels.std() == pytest.approx(0.3 / np.sqrt(12), rel=0.1)
    assert labels.equals(read_chexpert(csv, "soft", findings=["Edema"])["label"])
    assert not labels.equals(read_chexpert(csv, "soft", findings=["Edema"], seed=1)["label"])
    fewer = write(tmp_path, "fewer.csv", paths[200:], [-1.0] * 200)
    again = read_chexpert(fewer, "soft", findings=["Edema"])["label"]
    assert again.tolist() == labels[200:].tolist()  # other rows do not change a label


def test_the_policy_is_never_implied(csv):
    with pytest.raises(TypeError):
        read_chexpert(csv)
    with pytest.raises(DataError, match="no policy 'ones'.*U-Ones, U-Zeros, soft, ignore"):
        read_chexpert(csv, "ones")


def test_the_table(csv):
    table = read_chexpert(csv, "U-Ones")
    assert tuple(table.columns) == COLUMNS
    assert len(table) == len(PATHS) * len(FINDINGS)
    first = table.iloc[0]
    assert first["patient_id"] == "patient00001"
    assert first["image_id"] == PATHS[0]
    assert first["image_path"] == str(csv.parent / PATHS[0])
    assert (first["split"], first["site"]) == ("train", "Stanford")
    targets = table.pivot(index="image_id", columns="finding", values="label")
    assert targets.shape == (len(PATHS), 14)
    assert targets.loc[PATHS[0], "Edema"] == 1


def test_blank_is_negative(csv):
    said = read_chexpert(csv, "U-Zeros", findings=["Edema"]).iloc[3]
    assert (said["label"], said["label_weight"]) == (0, 1)


def test_patients_are_never_torn(csv, tmp_path):
    other = write(tmp_path, "valid.csv", ["valid/patient00002/study9/view1_frontal.jpg"], [1.0])
    with pytest.raises(OverlapError, match="patient00002"):
        read_chexpert(other.parent, "U-Ones")
    write(tmp_path, "valid.csv", ["valid/patient64541/study1/view1_frontal.jpg"], [1.0])
    both = read_chexpert(csv.parent, "u-ones", findings=["Edema"])
    assert both["split"].value_counts().to_dict() == {"train": 6, "valid": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"paths": ["train/p1/view1.jpg"], "edema": [1]}, "row 2 has the path .*whose image it is"),
        ({"edema": [1, 0, -1, None, -1, 2]}, "row 7 has '2.0' for 'Edema'"),
        ({"edema": [1, 0, -1, None, -1, "yes"]}, "row 7 has 'yes' for 'Edema'"),
        ({"paths": [PATHS[0]] * 2, "edema": [1, 1]}, "more than once"),
        ({"paths": [], "edema": []}, "no image found"),
    ],
)
def test_what_cannot_be_read(tmp_path, change, message):
    with pytest.raises(DataError, match=message) as caught:
        read_chexpert(write(tmp_path, **change), "U-Ones", findings=["Edema"])
    assert "\n" not in str(caught.value)


def test_missing_files_and_columns(csv, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_chexpert(tmp_path / "none.csv", "U-Ones")
    with pytest.raises(DataError, match="no column 'Oedema'"):
        read_chexpert(csv, "U-Ones", findings=["Oedema"])
    (tmp_path / "other.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not readable as CSV"):
        read_chexpert(tmp_path / "other.csv", "U-Ones")
    with pytest.raises(DataError, match="no CSV; expected"):
        read_chexpert(tmp_path, "U-Ones")


def test_on_the_command_line(csv, tmp_path):
    def convert(*arguments):
        return CliRunner().invoke(cli.app, ["data", "convert", str(csv.parent), *arguments])

    out = tmp_path / "table.csv"
    done = convert("--to", "table", "--policy", "u-zeros", "--out", str(out))
    assert done.exit_code == 0, done.stderr
    assert f"{len(PATHS) * 14} labels of 4 patients" in done.stdout
    table = pd.read_csv(out)
    assert table[table["finding"] == "Edema"]["label"].tolist() == [1, 0, 0, 0, 0, 1]
    for wrong in (["--policy", "u-ones", "--out", str(out)], ["--out", str(tmp_path / "new.csv")]):
        done = convert("--to", "table", *wrong)
        assert done.exit_code == 2
        assert len(done.stderr.splitlines()) == 1
