"""A parameter that can be none is one line at the door, and nothing is opened or left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from book.__main__ import app as book_app
from medlib import cli
from medlib.baseline.make_run import find_or_make_run
from medlib.cohorts import phantom_cohorts
from medlib.cohorts.cohort import open_cohort
from medlib.errors import InputError, MedlibError, RunError
from medlib.risk.run_evaluation import evaluated_run

SEEDS = ["0", "abc", "", -1, 0.0, 1.5, float("nan"), True, None, 2**32, [0]]
TEXTS = [3, True, "", "None", ["phantom"]]


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    """Stand where it would show if anything were made; and nothing may be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("medlib.paths.DATA", tmp_path / "data")
    monkeypatch.setattr("medlib.baseline.make_run.RUNS", tmp_path / "runs")
    monkeypatch.setattr(phantom_cohorts, "_make", lambda *_: pytest.fail("a cohort was made"))
    yield
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("door", [open_cohort, find_or_make_run, evaluated_run])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("seed", seed) for seed in SEEDS),
        *(("dataset", text) for text in TEXTS),
        *(("profile", text) for text in [*TEXTS, None]),
    ],
)
def test_what_can_be_no_parameter_is_one_line(door, name, value):
    with pytest.raises(InputError, match=rf"^{name} is ") as refused:
        door(**{name: value})
    assert str(refused.value).isprintable()
    if name == "seed":
        assert "expected a whole number from 0 to 4294967295" in str(refused.value)


def test_text_that_looks_like_a_number_says_how_to_give_one():
    """Papermill's -r hands over text: it made another run under the name of the default one."""
    with pytest.raises(InputError, match=r"seed is '0': .*papermill hands numbers over with -p"):
        evaluated_run(seed="0")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"4294967295$"):
        evaluated_run("quick", None, -1)


@pytest.mark.parametrize("run_dir", [5, "None", "", True])
def test_what_can_be_no_run_folder(run_dir):
    for door in (find_or_make_run, evaluated_run):
        with pytest.raises(InputError, match="run_dir is"):
            door(run_dir=run_dir)


def test_a_file_is_no_run_folder_and_stays():
    with pytest.raises(RunError, match="is no folder"):
        evaluated_run(run_dir=Path(__file__))
    assert Path(__file__).is_file()


@pytest.mark.parametrize("profile", ["nonsense", "Quick"])
def test_an_unknown_profile_names_those_there_are(profile):
    for door in (open_cohort, find_or_make_run, evaluated_run):
        with pytest.raises(MedlibError, match=rf"'{profile}'.* one of quick"):
            door(profile=profile)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--seed", "-1"], "seed is -1: expected a whole number"),
        (["train", "--seed", str(2**32)], "seed is 4294967296"),
        (["train", "--profile", "nonsense"], "'nonsense' is unknown"),
        (["train", "--dataset", ""], "dataset is the text ''"),
        (["train", "--dataset", "nowhere"], "nowhere is no cohort"),
        (["train", "--leave-out", "scan"], "--leave-out scan: only"),
        (["train", "--set", "steps=0"], "steps cannot be '0'"),
        (["train", "--run-dir", __file__], "is no folder"),
        (["data", "phantom", "--seed", "-1"], "seed is -1"),
        (["data", "phantom", "--profile", "nonsense"], "no profile 'nonsense'"),
    ],
)
def test_on_the_command_line(arguments, said):
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert said in line


def test_a_disk_that_cannot_be_written_is_one_line(monkeypatch):
    def read_only(*_):
        raise PermissionError(13, "Permission denied", "data/phantom")

    monkeypatch.setattr(phantom_cohorts, "_make", read_only)
    done = CliRunner().invoke(cli.app, ["data", "phantom"])
    assert done.exit_code == 2
    assert done.stderr == "medlib: data/phantom: Permission denied\n"


def test_the_book_asks_before_its_first_chapter(monkeypatch):
    monkeypatch.setattr("book.build.build_book", lambda **_: pytest.fail("a chapter was executed"))
    done = CliRunner().invoke(book_app, ["build", "--seed", "-1"])
    assert done.exit_code == 2
    assert "seed is -1: expected a whole number" in done.stderr
