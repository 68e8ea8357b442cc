from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from medlib.baseline.config import train_config
from medlib.errors import RunError
from studies import ablation as ablation_study
from studies.ablation import (
    BASE,
    RANDOM,
    VARIANTS,
    read_study,
    study,
    summary,
    variant_config,
    without_phantom,
)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != BASE])
def test_each_variant_differs_from_what_it_is_held_against_in_its_choice_alone(name: str):
    against, _, changes = VARIANTS[name]
    one = variant_config(name, 40, 3).model_dump()
    other = variant_config(against, 40, 3).model_dump()
    differing = {key for key, value in one.items() if other[key] != value}
    allowed = set(changes) | ({"head_first_steps"} if "encoder_rate" in changes else set())
    assert differing
    assert differing <= allowed
    assert one["steps"] == other["steps"] == 40


def test_the_difference_is_taken_volume_by_volume_and_over_seeds():
    rows = [
        {"variant": variant, "seed": seed, "voi_id": voi, "patient_id": patient,
         "dice": dice + gain + 0.1 * seed, "missed": 0.0, "seconds": 10.0}
        for variant, gain in ((BASE, 0.0), (RANDOM, -0.2))
        for seed in (0, 1)
        for voi, patient, dice in (("a", "p", 0.5), ("b", "p", 0.7), ("c", "q", 0.6))
    ]  # fmt: skip
    found = summary(pd.DataFrame(rows)).set_index("variant")
    assert found.index.tolist() == [BASE, RANDOM]
    assert found.loc[RANDOM, "dice"].value == pytest.approx(0.6 - 0.2 + 0.05)
    difference = found.loc[RANDOM, "difference"]
    assert (difference.value, difference.low, difference.high) == pytest.approx((-0.2,) * 3)
    assert difference.n == 2  # patients
    assert found.loc[BASE, "spread"] == pytest.approx(0.1)
    assert found.loc[RANDOM, "seeds"] == 2


@pytest.fixture(autouse=True)
def no_nodules(monkeypatch):
    """The real CT and the phantom hold nothing."""
    empty = SimpleNamespace(table=pd.DataFrame({"part": ["lidc_voi", "full_ct"]}))
    monkeypatch.setattr(ablation_study, "open_cohort", lambda dataset: empty)
    monkeypatch.setattr(ablation_study, "checksum", lambda cohort: "0")
    monkeypatch.setattr(ablation_study, "windows", lambda cohort, split: [])
    monkeypatch.setattr(ablation_study, "outline_data", lambda *_: {"train": None})


def test_a_study_goes_on_where_it_was_cut_off(tmp_path, monkeypatch):
    judged = []

    def judge(data, vois, config):
        if len(judged) == 3:
            raise KeyboardInterrupt
        judged.append((config.seed, config.loss))
        return pd.DataFrame([{"voi_id": "a", "patient_id": "p", "dice": 0.5, "seconds": 1.0}])

    monkeypatch.setattr(ablation_study, "_judge", judge)
    with pytest.raises(KeyboardInterrupt):
        study(40, [0, 1], tmp_path)
    assert len(read_study(tmp_path)) == 3
    judged[:] = []
    monkeypatch.setattr(ablation_study, "VARIANTS", dict(list(VARIANTS.items())[:5]))
    assert len(study(40, [0], tmp_path)) == 5
    assert len(judged) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed0.csv", "settings.json"]
    with pytest.raises(RunError, match="another steps and config: name another folder"):
        study(41, [1], tmp_path)
    assert len(read_study(tmp_path)) == 5
    (tmp_path / ablation_study.SETTINGS).unlink()
    with pytest.raises(RunError, match=r"tables without settings\.json"):
        study(40, [0], tmp_path)


def test_the_quick_study_is_found_where_nothing_has_changed(tmp_path, monkeypatch):
    judged = []

    def judge(data, vois, config):
        judged.append(config)
        return pd.DataFrame([{"voi_id": "a", "patient_id": "p", "dice": 0.5, "seconds": 1.0}])

    monkeypatch.setattr(ablation_study, "RUNS", tmp_path)
    monkeypatch.setattr(ablation_study, "_judge", judge)
    phantom = SimpleNamespace(folder=tmp_path / "phantom", table=pd.DataFrame())
    assert ablation_study.quick_study(phantom)["variant"].tolist() == list(ablation_study.QUICK)
    assert all(config.voi_crops == 1 and not config.scan_crops for config in judged)
    assert len(ablation_study.quick_study(phantom)) == len(judged) == len(ablation_study.QUICK)
    assert ablation_study.quick_study(phantom, seed=7)["seed"].unique().tolist() == [7]
    monkeypatch.setattr(ablation_study, "code_key", lambda *modules: "another code")
    ablation_study.quick_study(phantom)
    assert len(judged) == 3 * len(ablation_study.QUICK)
    monkeypatch.setattr(ablation_study, "describe", lambda device: "another device")
    ablation_study.quick_study(phantom)
    assert len(judged) == 4 * len(ablation_study.QUICK)
    assert len(list(tmp_path.glob("ablation-phantom-*"))) == 3


@pytest.mark.parametrize("shares", [(0.77, 0.13), (0.5, 0.2), (0.9, 0.0), (0.85, 0.15)])
def test_without_the_phantom_real_ct_has_all_crops_in_proportion(shares):
    voi_crops, scan_crops = shares
    shares = {"voi_crops": voi_crops, "scan_crops": scan_crops, "mass_crops": 0.05}
    config = train_config("quick").model_copy(update=shares)
    alone = without_phantom(config)
    assert alone.phantom_share == alone.mass_crops == 0
    assert alone.scan_crops * voi_crops == pytest.approx(alone.voi_crops * scan_crops, abs=1e-5)
