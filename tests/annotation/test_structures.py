"""Which structures are lesions, which were asked for, and what they are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medlib.annotation.drawings import READER, Annotation, Author, LesionMask
from medlib.annotation.structures import Structure, author_in, choose, label_of, names_lesion
from medlib.errors import InputError

FILE = Path("a.dcm")
HEART = (("123037004", "SCT", "Anatomical Structure"), ("80891009", "SCT", "Heart"))
LUNG_MASS = (("49755003", "SCT", "Abnormal"), ("309529002", "SCT", "Lung mass"))
MASS = (("49755003", "SCT", "Morphologically Abnormal Structure"), ("4147007", "SCT", "Mass"))


def structure(number, label, kind="", code=None, author=READER):
    return Structure(number, label, kind, author, 3, code)


@pytest.mark.parametrize(
    "name",
    [
        *("GTV-1", "gtvp", "IGTV_T50", "Lung GTV", "GTV_L", "Lung Nodule 3", "nodules", "Tumour"),
        *("tumor_1", "LESION", "Läsion", "lésion", "nódulo", "Mass", "Neoplasm, Primary", "結節"),
    ],
)
def test_names_of_lesions(name):
    assert names_lesion(name)


@pytest.mark.parametrize(
    "name",
    [
        *("Heart", "Lungs", "Spinal cord", "Body", "Isocenter 1", "Masseter_L", "BODY", ""),
        *("Lungs-GTV", "lung - gtv", "Lung_minus_GTV", "PTV-1", "CTV", "PTV (GTV+5mm)"),
        *("Lungs excl. GTV", "Lung_L-IGTV", "Segment_1"),
    ],
)
def test_names_of_other_things(name):
    assert not names_lesion(name)


def test_lesions_are_taken_by_name_code_or_type_and_the_rest_is_told():
    there = [
        structure(1, "Heart", code=HEART),
        structure(2, "GTV-1", "ORGAN"),
        structure(4, "Segment_4", "Mass", code=MASS),
        structure(5, "T1", "GTV"),
        structure(6, "Segment_6", "Lung mass", code=LUNG_MASS),
        structure(9, "Patient", "EXTERNAL"),
        structure(10, "GTV centre", "MARKER"),
    ]
    choice = choose(FILE, there)
    assert choice.keys == {2: (2, 1), 4: (4, 1), 5: (5, 1), 6: (6, 1)}
    assert choice.names == {2: "GTV-1", 4: "Segment_4", 5: "T1", 6: "Segment_6"}
    assert choice.codes[4] == MASS
    assert choice.codes[5][1][0] == "27925004"
    [note] = choice.notes
    assert note == "left out: 1 'Heart', 9 'Patient', 10 'GTV centre'"


def test_no_organ_is_taken_unless_it_is_named():
    there = [structure(1, "Heart", code=HEART), structure(2, "Lungs", "ORGAN")]
    with pytest.raises(InputError, match=r"1 'Heart', 2 'Lungs'.*--roi"):
        choose(FILE, there)
    with pytest.raises(InputError, match=r"no structure 'Liver'.*1 'Heart', 2 'Lungs'"):
        choose(FILE, there, ["heart", "Liver"])
    by_name, by_number = choose(FILE, there, [" HEART "]), choose(FILE, there, ["1", "2"])
    assert by_name.keys == {1: (1, 1)}
    assert by_name.codes == {1: HEART}
    assert by_number.keys == {1: (1, 1), 2: (2, 1)}
    assert by_number.codes[2][1][2] == "Anatomical Structure"


def test_each_author_of_a_foreign_file_is_a_reader():
    net, other = Author("algorithm", "net"), Author("algorithm", "other")
    there = [structure(k, f"GTV-{k}", author=who) for k, who in enumerate([net, READER, net], 1)]
    choice = choose(FILE, [*there, structure(4, "Lesion 2, reader 1")])
    assert choice.keys == {4: (2, 1), 1: (1, 2), 2: (3, 3), 3: (4, 2)}
    assert choice.authors == {1: READER, 2: net, 3: READER}
    assert other not in choice.authors.values()


@pytest.mark.parametrize("who", [READER, Author("reader", "reviewer"), Author("algorithm", "net")])
@pytest.mark.parametrize("name", ["", "GTV-1", "Heart", "Knoten (links), reader 2", "x" * 64])
def test_a_name_comes_back_from_its_label(who, name):
    mask = LesionMask.cut(7, 2, np.ones((1, 1, 1), bool))
    drawn = Annotation.gather(None, [mask])
    drawn.authors[2] = who
    if name:
        drawn.names[7] = name
    label = label_of(drawn, mask)
    assert len(label) <= 64
    assert label.startswith("Lesion 7" if name in ("", "GTV-1") else "Structure 7")
    stated = Author(who.kind, who.name if who.kind == "algorithm" else "")
    back = structure(1, label, author=author_in(label, stated))
    assert name.startswith(back.name)
    assert len(back.name) == min(len(name), 64 - len(label) + len(back.name))
    choice = choose(FILE, [back], ["1"])
    assert choice.keys == {1: (7, 2)}
    assert choice.authors == {2: who}
