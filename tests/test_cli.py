from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest
from pydicom.data import get_testdata_file
from typer.testing import CliRunner

from medlib import cli
from medlib.baseline.make_run import order
from medlib.errors import BookError, RunError

MEDLIB = Path(sys.executable).with_name("medlib")


def medlib(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MEDLIB, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def one_line(stderr: str) -> str:
    [line] = stderr.splitlines()
    assert "Traceback" not in line
    return line


def empty_folder(path: Path) -> None:
    path.mkdir()


def text_file(path: Path) -> None:
    path.write_text("not an image\n")


def folder_of_text(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("not an image\n")


def truncated_dicom(path: Path) -> None:
    path.mkdir()
    whole = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    (path / "cut.dcm").write_bytes(whole[: len(whole) // 2])


def not_a_ct(path: Path) -> None:
    path.mkdir()
    dataset = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
    dataset.save_as(path / "mr.dcm")


def nothing(path: Path) -> None:
    """Leave the path missing."""


BAD_INPUTS = [nothing, empty_folder, text_file, folder_of_text, truncated_dicom, not_a_ct]


@pytest.mark.parametrize("make", BAD_INPUTS)
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(make, tmp_path):
    make(tmp_path / "in")
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(
        cli.app, ["assist", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 2
    assert one_line(result.stderr).startswith("medlib: ")
    assert result.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_assist_says_and_exits_1_where_something_was_not_looked_at(monkeypatch, tmp_path):
    def report(reason: str):
        priority = "not looked at" if reason else "low"
        return SimpleNamespace(
            lesions=(), warnings=(), review_priority=priority, not_looked_at=reason
        )

    reports = {"head": report("no lung was found"), "chest": report("")}
    monkeypatch.setattr("medlib.review.schema.read_report", lambda folder: reports[folder.name])
    for names, code in ((["chest"], 0), (["head", "chest"], 1)):
        folders = [tmp_path / name for name in names]
        monkeypatch.setattr("medlib.review.report.assist", lambda *_, given=folders: given)
        done = CliRunner().invoke(cli.app, ["assist", "in", "--out", "out"])
        assert done.exit_code == code
        assert len(done.stdout.splitlines()) >= len(names) + 1
    state = "marks 0, review priority not looked at: no lung was found, warnings 0"
    assert done.stdout.splitlines()[0] == f"{tmp_path / 'head'}: {state}"


def test_bad_input_through_the_installed_command(tmp_path):
    truncated_dicom(tmp_path / "in")
    done = medlib("assist", tmp_path / "in", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert one_line(done.stderr).startswith("medlib: ")
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "code"), [(RunError("no run; make one"), 2), (BookError("chapter 5 failed"), 1)]
)
def test_errors_for_people(monkeypatch, error, code):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("medlib.cohorts.cohort.open_cohort", fail)
    result = CliRunner().invoke(cli.app, ["data", "phantom"])
    assert result.exit_code == code
    assert result.stderr == f"medlib: {error}\n"


def test_what_stands_in_a_file_makes_no_second_line(monkeypatch):
    def fail(*_, **__):
        raise RunError("drawn on 1.2.\x14\n3, not here")

    monkeypatch.setattr("medlib.cohorts.cohort.open_cohort", fail)
    result = CliRunner().invoke(cli.app, ["data", "phantom"])
    assert result.stderr == "medlib: drawn on 1.2.??3, not here\n"


def test_other_errors_keep_their_traceback(monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr("medlib.cohorts.cohort.open_cohort", fail)
    result = CliRunner().invoke(cli.app, ["data", "phantom"])
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize("arguments", [["assist"], ["assist", "in"], ["nonsense"], ["train", "-x"]])
def test_wrong_usage_is_exit_code_2(arguments):
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 2
    assert "Usage" in result.stderr


def test_a_real_scan_can_only_be_left_out_where_one_is_seen():
    result = CliRunner().invoke(cli.app, ["train", "--leave-out", "scan"])
    assert result.exit_code == 2
    assert "--leave-out scan: only a run on lidc-voi" in one_line(result.stderr)


PHANTOM_ALONE = ["--profile", "lidc", "--dataset", "phantom"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "loss=foo"], "loss cannot be 'foo'"),
        (["--dataset", "lidc-voi", "--set", "loss=bce"], "--set loss=bce: such a run has two"),
        ([*PHANTOM_ALONE, "--set", "loss=bce"], "--set loss=bce: such a run has two"),
        ([*PHANTOM_ALONE, "--leave-out", "scan"], "only a run on lidc-voi sees whole"),
        (PHANTOM_ALONE, "there is nothing here has no folder lidc_voi"),
        (["--profile", "lidc"], "'lidc' learns from real CT: use --dataset lidc-voi, or"),
        (["--profile", "lidc", "--dataset", "mine"], "'lidc' learns from real CT: use"),
        (["--dataset", "lidc-voi"], "profile 'quick' makes no run on real CT: use the profile"),
        (["--dataset", "lidc-voi", "--profile", "lidc-outline"], "'lidc-outline' makes no run"),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_is_opened(arguments, said, monkeypatch):
    monkeypatch.setenv("MEDLIB_REAL_CT", "there is nothing here")
    result = CliRunner().invoke(cli.app, ["train", *arguments])
    assert result.exit_code == 2
    assert said in one_line(result.stderr)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (("lidc", "lidc-voi", 5), "lidc-seed5"),
        (("lidc", "lidc-voi", 5, (), "scan"), "left-out/lidc-seed5-without-scan"),
        (("lidc", "phantom", 5), "lidc-phantom-seed5"),
        (("quick", None, 5, ["loss=bce"]), "phantom-quick-seed5-loss-bce"),
    ],
)
def test_a_run_has_a_name_by_what_it_is_made_from(asked, name):
    assert order(*asked).name == name


def test_no_folder_takes_the_name_of_the_phantoms_run(tmp_path):
    names = {order("quick", dataset).name for dataset in ("phantom", "a/phantom", "b/phantom")}
    assert len(names) == 3
    assert "phantom-quick-seed0" in names
    assert order("quick", tmp_path / "ct").name.startswith("ct-")


def test_train_says_how_to_write_the_card_of_a_run_that_saw_real_ct(monkeypatch):
    run = SimpleNamespace(folder="x", card={"data": {"real_ct": {}}})
    asked = []
    monkeypatch.setattr(
        "medlib.risk.run_evaluation.evaluated_run",
        lambda *given: asked.append(given) or SimpleNamespace(run=run),
    )
    train = ["train", "--profile", "lidc", "--dataset", "lidc-voi", "--leave-out", "scan"]
    done = CliRunner().invoke(cli.app, train)
    assert done.stdout == "x\nits model card: python -m tools model-card x\n"
    assert asked == [("lidc", "lidc-voi", 0, None, (), "scan")]


def test_help_is_quick_and_says_what_it_is_not():
    started = time.perf_counter()
    done = medlib("--help")
    seconds = time.perf_counter() - started
    assert done.returncode == 0
    assert seconds < 2  # 0.4 s on an idle machine
    for command in ("assist", "train", "data", "annotation"):
        assert command in done.stdout
    assert "not a medical device" in " ".join(done.stdout.split())
