from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pytest
from annotated import SHAPE, disc, voxels

from medlib.annotation.corrections import apply_corrections, read_answers
from medlib.annotation.diff import difference
from medlib.annotation.drawings import Annotation, GridMismatchError, LesionMask
from medlib.annotation.revision import MANIFEST_FILE, read_manifest, read_version, revise
from medlib.errors import DataError, InputError
from medlib.review.decisions import Answer, Decision

DAY = date(2026, 3, 1)
RATINGS = {(1, 1): {"texture": 5, "subtlety": 3}}


@pytest.fixture
def larger(annotation):
    """Lesion 2 of reader 1 grown, lesion 1 of reader 2 gone, lesion 3 new, a rating changed."""
    kept = [m for m in annotation.masks if (m.lesion, m.reader) in {(1, 1), (2, 2)}]
    grown = LesionMask.cut(2, 1, disc((6, 28, 30), 5.4))
    new = LesionMask.cut(3, 3, disc((2, 30, 10), 4.0))
    ratings = {(1, 1): {"texture": 4, "subtlety": 3}}
    return Annotation.gather(annotation.grid, [*kept, grown, new], (), (2,), ratings)


@pytest.fixture
def folder(tmp_path, annotation):
    first = Annotation.gather(annotation.grid, annotation.masks, (), (), RATINGS)
    revise(tmp_path / "a", first, role="reader", reason="first reading", date=DAY)
    return tmp_path / "a"


def test_versions_come_back_as_they_were_written(folder, annotation, larger):
    version = revise(folder, larger, role="adjudicator", reason=" escalated ", date=DAY)
    assert (version.number, version.reason, version.lesions) == (2, "escalated", 3)
    assert version.parent_sha256 == read_manifest(folder).versions[0].sha256
    assert voxels(read_version(folder)) == voxels(larger)
    first = read_version(folder, 1)
    assert voxels(first) == voxels(annotation)
    assert first.ratings == RATINGS
    assert first.readers == (1, 2)
    assert first.grid.same_as(annotation.grid)


def test_earlier_versions_are_not_touched(folder, larger):
    table = (folder / "annotation-0001.csv").read_bytes()
    record = read_manifest(folder).versions[0]
    revise(folder, larger, role="reader", reason="second look", date=DAY)
    assert (folder / "annotation-0001.csv").read_bytes() == table
    assert read_manifest(folder).versions[0] == record
    assert sorted(path.name for path in folder.iterdir()) == [
        "annotation-0001.csv",
        "annotation-0002.csv",
        MANIFEST_FILE,
    ]


def test_the_same_calls_give_the_same_bytes(folder, annotation, tmp_path):
    again = Annotation.gather(annotation.grid, annotation.masks, (), (), RATINGS)
    revise(tmp_path / "b", again, role="reader", reason="first reading", date=DAY)
    for file in folder.iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@pytest.mark.parametrize("what", ["reason", "role", "table", "parent", "number"])
def test_a_changed_history_is_found(folder, larger, what):
    revise(folder, larger, role="reader", reason="second look", date=DAY)
    path = folder / MANIFEST_FILE
    content = json.loads(path.read_text())
    if what == "table":
        file = folder / "annotation-0001.csv"
        file.write_text(file.read_text().replace("1,1,1", "1,2,1", 1))
    elif what == "parent":
        content["versions"][1]["parent_sha256"] = "0" * 64
    elif what == "number":
        del content["versions"][0]
    else:
        content["versions"][0][what] = "adjudicator"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="not as it was written"):
        read_version(folder)


def test_what_is_no_revision_is_refused_and_nothing_written(folder, annotation, larger):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match="never a name"):
        revise(folder, larger, role="Dr. Someone", reason="x", date=DAY)
    with pytest.raises(InputError, match="reason is empty"):
        revise(folder, larger, role="reader", reason="  ", date=DAY)
    with pytest.raises(InputError, match="lies before version 1"):
        revise(folder, larger, role="reader", reason="x", date=date(2026, 2, 1))
    with pytest.raises(InputError, match="nothing differs"):
        revise(folder, read_version(folder), role="reader", reason="x", date=DAY)
    moved = replace(larger, grid=replace(larger.grid, series_instance_uid="1.9"))
    with pytest.raises(GridMismatchError, match="history of series"):
        revise(folder, moved, role="reader", reason="x", date=DAY)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(InputError, match="no version 2"):
        read_version(folder, 2)


def test_the_difference_counts_voxels_volumes_lesions_and_ratings(folder, annotation, larger):
    changed = difference(read_version(folder), larger)
    assert (changed.lesions_added, changed.lesions_removed) == ((3,), ())
    assert changed.lesions_changed == (1, 2)
    assert (changed.readers_added, changed.readers_removed) == ((3,), ())
    by_key = {(m.lesion, m.reader): m for m in changed.masks}
    assert {key: m.change for key, m in by_key.items()} == {
        (1, 2): "removed",
        (2, 1): "changed",
        (3, 3): "added",
    }
    old = next(m for m in annotation.masks if (m.lesion, m.reader) == (2, 1))
    before = np.zeros(SHAPE, dtype=bool)
    before[old.block] = old.mask
    after = disc((6, 28, 30), 5.4)
    grown = by_key[2, 1]
    assert grown.voxels_added == (after & ~before).sum()
    assert grown.voxels_removed == (before & ~after).sum()
    to_ml = annotation.grid.voxel_volume_mm3 / 1000
    assert grown.after_ml == pytest.approx(after.sum() * to_ml)
    [rating] = changed.ratings
    assert (rating.rating, rating.before, rating.after) == ("texture", 5, 4)
    text = str(changed)
    for words in ("lesions added: 3", "lesion 1, reader 1: texture 5 -> 4", "mL"):
        assert words in text
    back = difference(larger, read_version(folder))
    assert (back.lesions_removed, back.masks[-1].change) == ((3,), "removed")
    assert len(changed.table()) == 3


def test_no_difference(annotation):
    assert not difference(annotation, annotation)
    assert str(difference(annotation, annotation)) == "no difference"


def decision(lesion_id, answer, reason="outline off", role="reviewer"):
    """As the review room writes it: what comes in here is its schema."""
    record = Decision(
        series_instance_uid="1.2.3.4",
        lesion_id=lesion_id,
        answer=answer,
        role=role,
        reason=reason,
        time=datetime(2026, 3, 2, tzinfo=UTC),
    )
    return record.model_dump_json()


def review(folder, *lines):
    folder.mkdir(exist_ok=True)
    (folder / "decisions.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return read_answers(folder)


@pytest.fixture
def labels():
    """The model marks lesion 1 too large, lesion 2 in two parts, and a vessel."""
    model = np.zeros(SHAPE, dtype=np.uint16)
    model[disc((3, 15, 12), 7.0)] = 1
    model[disc((6, 28, 28), 2.0)] = 2
    model[disc((6, 28, 33), 1.5)] = 3
    model[disc((1, 34, 36), 3.0)] = 4
    return model


def test_corrections_come_in_as_one_more_reader(tmp_path, annotation, labels):
    corrected = labels.copy()
    corrected[labels == 1] = 0
    corrected[disc((3, 15, 12), 5.0)] = 1
    missed = disc((7, 10, 32), 4.0)
    corrected[missed] = 9
    answers = review(
        tmp_path,
        decision(1, Answer.CONFIRM),
        decision(1, Answer.CORRECT),  # the later answer stands
        decision(2, Answer.CORRECT, "one lesion in pieces"),
        decision(3, Answer.CORRECT, "one lesion in pieces"),
        decision(4, Answer.REJECT, "a vessel"),
        decision(None, Answer.CORRECT, "one missed"),
    )
    found = apply_corrections(annotation, answers, labels, corrected)
    assert found.role == "reviewer"
    assert found.reason == ("correct 4, reject 1: outline off; one lesion in pieces; one missed")
    assert found.annotation.readers == (1, 2, 3)
    drawn = {m.lesion: m for m in found.annotation.masks if m.reader == 3}
    assert sorted(drawn) == [1, 2, 3]
    assert drawn[1].n_voxels == disc((3, 15, 12), 5.0).sum()
    assert drawn[2].n_voxels == ((labels == 2) | (labels == 3)).sum()
    assert drawn[3].n_voxels == missed.sum()
    # What the readers drew stands as it was.
    changes = difference(annotation, found.annotation)
    assert {m.change for m in changes.masks} == {"added"}


def test_a_mark_may_go_into_another(tmp_path, annotation, labels):
    corrected = labels.copy()
    corrected[disc((6, 28, 30), 5.0)] = 2  # over marks 2 and 3
    assert not (corrected == 3).any()
    answers = review(tmp_path, decision(2, Answer.CORRECT), decision(3, Answer.CORRECT))
    found = apply_corrections(annotation, answers, labels, corrected)
    [drawn] = [m for m in found.annotation.masks if m.reader == 3]
    assert (drawn.lesion, drawn.n_voxels) == (2, disc((6, 28, 30), 5.0).sum())


def test_reviews_that_do_not_fit_are_refused(tmp_path, annotation, labels):
    def apply(corrected, *lines):
        return apply_corrections(annotation, review(tmp_path / "r", *lines), labels, corrected)

    with pytest.raises(InputError, match="mark 7 .* holds no voxel"):
        apply(labels, decision(7, Answer.CORRECT))
    with pytest.raises(InputError, match="holds no new number"):
        apply(labels, decision(None, Answer.CORRECT))
    with pytest.raises(InputError, match="no answer is 'correct'"):
        apply(labels, decision(1, Answer.CONFIRM))
    with pytest.raises(InputError, match="roles reader, reviewer"):
        apply(labels, decision(1, Answer.CORRECT), decision(2, Answer.CORRECT, role="reader"))
    other = decision(1, Answer.CORRECT).replace("1.2.3.4", "1.2.3.9")
    with pytest.raises(InputError, match=r"of series 1\.2\.3\.9"):
        apply(labels, other)
    with pytest.raises(InputError, match="line 1 lacks"):
        review(tmp_path / "r", "{}")
    with pytest.raises(InputError, match="holds no answer"):
        review(tmp_path / "r")
    with pytest.raises(InputError, match="no answers here"):
        read_answers(tmp_path / "none")
