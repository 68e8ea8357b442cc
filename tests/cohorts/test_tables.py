from __future__ import annotations

import pytest

from medlib.cohorts.tables import read_table
from medlib.errors import DataError


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a CSV table"),
        (b"\xff\xfe\x00PNG", "not a CSV table"),
        (b"case,file\na,b,c\n1,2,3,4\n", "not a CSV table"),
        (b"case\na\n", "lacks the columns file; add them"),
        (b"case,file\na,\n", "the column file has empty cells"),
        (b"case,file\n", "a row for each case, each once"),
        (b"case,file\na,b\na,c\n", "a row for each case, each once"),
    ],
)
def test_what_is_no_such_table_is_refused_in_one_line(tmp_path, content, words):
    path = tmp_path / "cases.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_table(path, ("case", "file"))
    assert "\n" not in str(caught.value)


def test_a_name_that_looks_like_a_number_stays_a_name(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("case,n\n007,7\n")
    table = read_table(path, ("case", "n"), ("case",))
    assert table["case"].tolist() == ["007"]
    assert table["n"].tolist() == [7]
