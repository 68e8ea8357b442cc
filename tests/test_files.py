"""What is written appears whole or not at all."""

from pathlib import Path

import pytest

from medlib.files import put_in_place


@pytest.mark.parametrize("inside", ["", "table.csv"])  # a file, a folder
def test_an_error_leaves_what_stood_there(tmp_path: Path, inside: str) -> None:
    target = tmp_path / "result"

    def write(text: str, error: type[BaseException] | None = None) -> None:
        with put_in_place(target) as beside:
            if error is not FileNotFoundError:  # else there is nothing to put in place
                (beside / inside).parent.mkdir(exist_ok=True)
                (beside / inside).write_text(text)
            if error is KeyboardInterrupt:
                raise error

    write("old")
    for error in (KeyboardInterrupt, FileNotFoundError):
        with pytest.raises(error):
            write("half", error)
        assert (target / inside).read_text() == "old"
    write("new")
    assert (target / inside).read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]
