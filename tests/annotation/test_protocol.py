from __future__ import annotations

import json

import pytest

from medlib.annotation.protocol import PROTOCOL, default_protocol, read_protocol
from medlib.errors import DataError


@pytest.fixture
def content():
    return json.loads(PROTOCOL.read_text())


def written(tmp_path, content):
    path = tmp_path / "protocol.json"
    path.write_text(json.dumps(content))
    return path


def test_the_guide_says_the_numbers_of_the_file(tmp_path, content):
    content["lesion"]["min_axial_diameter_mm"] = 4.5
    content["reading"]["readers_per_case"] = 3
    content["training"]["cases"] = 33
    content["gates"][0] = {"below_mm": 7.0, "min_dice": 0.44}
    guide = "\n".join(read_protocol(written(tmp_path, content)).guide().values())
    for words in ("at least 4.5 mm", "below 4.5 mm", "At least 3 readers", "33 cases"):
        assert words in guide
    assert "below 7 mm: 0.44" in guide
    assert "{" not in guide


def test_the_guide_answers_what_a_reader_asks():
    headings = list(default_protocol().guide())
    for word in ("What to outline", "What not", "How to look", "line runs", "Density", "touches"):
        assert any(word in heading for heading in headings)
    for word in ("Ratings", "Who reads", "escalate", "Before the first"):
        assert any(word in heading for heading in headings)


def test_gates_by_diameter():
    protocol = default_protocol()
    gates = [protocol.min_dice(mm) for mm in (3, 5.99, 6, 9.99, 10, 60)]
    first, second, third = (gate.min_dice for gate in protocol.gates)
    assert gates == [first, first, second, second, third, third]


def drop_version(content):
    del content["version"]


def unknown_field(content):
    content["line"]["colour"] = "red"


def negative_size(content):
    content["lesion"]["min_axial_diameter_mm"] = -3


def sentence_without_field(content):
    content["line"]["how"] = "a line of {line.width} voxels"


def gates_in_disorder(content):
    content["gates"].reverse()


def rating_left_out(content):
    del content["ratings"]["texture"]


def one_reader_only(content):
    content["reading"]["readers_per_case"] = 1


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (drop_version, "version: Field required"),
        (unknown_field, "line.colour"),
        (negative_size, "lesion.min_axial_diameter_mm"),
        (sentence_without_field, "names no field"),
        (gates_in_disorder, "ascend"),
        (rating_left_out, "ratings must be"),
        (one_reader_only, "reference_readers"),
    ],
)
def test_a_protocol_that_does_not_hold_together_is_refused(tmp_path, content, spoil, words):
    spoil(content)
    with pytest.raises(DataError, match=words) as error:
        read_protocol(written(tmp_path, content))
    assert "\n" not in str(error.value)


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_protocol(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('{"name": ')
    with pytest.raises(DataError, match="not a protocol"):
        read_protocol(tmp_path / "cut.json")
