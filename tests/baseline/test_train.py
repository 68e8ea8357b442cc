from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from medlib.annotation.reference import reference_mask
from medlib.baseline import train as train_module
from medlib.baseline.augment import Augmentation
from medlib.baseline.config import TrainConfig
from medlib.baseline.crops import Crops
from medlib.baseline.inference import predict_volume
from medlib.baseline.network import build_network
from medlib.baseline.prepared_cases import training_volumes
from medlib.baseline.train import HISTORY_EVERY, Batches, Trained, train_on
from medlib.baseline.training_mix import patient_crops

CPU = torch.device("cpu")


def test_a_short_training_learns_a_bright_blob(trained: Trained, cohort, tiny: TrainConfig):
    (case,) = cohort.cases("test")
    prediction = predict_volume(trained.network, tiny, case.volume, CPU)
    reference = reference_mask(case.readers)
    marked = prediction.labels > 0
    assert 2 * (marked & reference).sum() / (marked.sum() + reference.sum()) > 0.5


def test_the_history_tells_both_curves(trained: Trained, tiny: TrainConfig):
    history = trained.history
    assert history["step"].tolist() == list(range(HISTORY_EVERY, tiny.steps + 1, HISTORY_EVERY))
    assert history["train_loss"].iloc[-1] < 0.7 * history["train_loss"].iloc[0]
    looked = history["tune_loss"].notna()
    assert history["step"][looked].tolist() == [20, 40]
    best = history.loc[history["tune_loss"].idxmin(), "step"]
    assert trained.best_step == best
    assert history["tune_dice"][looked].between(0, 1).all()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(cohort, tiny: TrainConfig):
    config = tiny.model_copy(update={"steps": 4, "tune_every": 2, "batch_size": 2})

    def weights(seed: int) -> list[torch.Tensor]:
        seeded = config.model_copy(update={"seed": seed})
        mix = patient_crops(cohort, seeded)
        trained = train_on(mix.train, mix.tune, seeded, CPU)
        return list(trained.network.state_dict().values())

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


class KilledError(Exception):
    """Stands in for the end of a process in the middle of a step."""


class KilledCrops(Crops):
    """Crops that end the process when the n-th is drawn."""

    left = 10**9

    def draw(self, rng):
        self.left -= 1
        if self.left < 0:
            raise KilledError
        return super().draw(rng)


@pytest.mark.parametrize("killed_after", np.random.default_rng(7).integers(1, 24, size=3))
def test_killed_anywhere_it_ends_as_if_it_was_not(cohort, tiny, tmp_path, killed_after, whole):
    config, volumes, unkilled = whole

    def go_on(n_crops: int):
        crops = KilledCrops(volumes["train"], config, 24, 0, Augmentation())
        crops.left = n_crops
        return train_on(crops, Crops(volumes["tune"], config, 4, 0), config, CPU, tmp_path)

    with pytest.raises(KilledError):
        go_on(killed_after)
    resumed = go_on(10**9)
    states = (t.network.state_dict().values() for t in (resumed, unkilled))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
    assert resumed.best_step == unkilled.best_step
    curves = ["step", "train_loss", "tune_loss", "learning_rate"]
    pd.testing.assert_frame_equal(resumed.history[curves], unkilled.history[curves])


def test_a_training_that_had_ended_ends_alike_when_it_is_asked_again(tmp_path, whole):
    config, volumes, unkilled = whole

    def once_more():
        crops = Crops(volumes["train"], config, 24, 0, Augmentation())
        return train_on(crops, Crops(volumes["tune"], config, 4, 0), config, CPU, tmp_path)

    for again in (once_more(), once_more(), once_more()):
        states = (t.network.state_dict().values() for t in (again, unkilled))
        assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
        assert again.best_step == unkilled.best_step
        curves = ["step", "train_loss", "tune_loss", "learning_rate"]
        pd.testing.assert_frame_equal(again.history[curves], unkilled.history[curves])


def test_a_training_may_be_moved_before_it_is_asked_again(tmp_path, whole):
    config, volumes, unkilled = whole

    def ask(folder):
        crops = Crops(volumes["train"], config, 24, 0, Augmentation())
        return train_on(crops, Crops(volumes["tune"], config, 4, 0), config, CPU, folder)

    ask(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    states = (t.network.state_dict().values() for t in (ask(tmp_path / "there"), unkilled))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_a_training_that_had_stopped_early_does_not_go_on(tmp_path, whole, monkeypatch):
    config, volumes, _ = whole
    hasty = config.model_copy(update={"patience": 1, "tune_every": 2})
    never_content = partial(train_module.EarlyStopping, min_delta=1e9)
    monkeypatch.setattr(train_module, "EarlyStopping", never_content)

    def once_more():
        crops = Crops(volumes["train"], hasty, 24, 0, Augmentation())
        return train_on(crops, Crops(volumes["tune"], hasty, 4, 0), hasty, CPU, tmp_path)

    first, again = once_more(), once_more()
    assert first.history["step"].max() < config.steps
    assert again.best_step == first.best_step
    assert again.history["step"].tolist() == first.history["step"].tolist()


@pytest.fixture(scope="module")
def whole(cohort, tiny):
    """A training that was not killed, with what it was made from."""
    config = tiny.model_copy(
        update={"steps": 12, "tune_every": 4, "batch_size": 2, "tune_crops": 4}
    )
    volumes = {split: training_volumes(cohort, config, split) for split in ("train", "tune")}
    crops = Crops(volumes["train"], config, 24, 0, Augmentation())
    unkilled = train_on(crops, Crops(volumes["tune"], config, 4, 0), config, CPU)
    return config, volumes, unkilled


@pytest.mark.parametrize("bfloat16", [False, True])
def test_gradients_are_clipped_at_every_step_in_either_precision(whole, monkeypatch, bfloat16):
    config, volumes, unkilled = whole
    here = train_module.has_fast_bfloat16(CPU)
    clipped = []

    def clip(parameters, max_norm):
        clipped.append(max_norm)
        return torch.nn.utils.clip_grad.clip_grad_norm_(parameters, max_norm)

    monkeypatch.setattr(train_module.nn.utils, "clip_grad_norm_", clip)
    monkeypatch.setattr(train_module, "has_fast_bfloat16", lambda device: bfloat16)
    crops = Crops(volumes["train"], config, 24, 0, Augmentation())
    trained = train_on(crops, Crops(volumes["tune"], config, 4, 0), config, CPU)
    assert clipped == [config.gradient_clip] * config.steps
    states = (t.network.state_dict().values() for t in (trained, unkilled))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True)) == (bfloat16 == here)
    assert trained.history["tune_loss"].notna().sum() == 3  # none of its looks went wrong


def test_the_weights_of_the_end_are_kept_where_the_configuration_says_so(cohort, tiny, tmp_path):
    config = tiny.model_copy(
        update={"steps": 12, "tune_every": 4, "batch_size": 2, "tune_crops": 4, "keep": "last"}
    )
    train_crops, tune_crops = (
        Crops(training_volumes(cohort, config, split), config, 24, 0) for split in ("train", "tune")
    )
    trained = train_on(train_crops, tune_crops, config, CPU, tmp_path)
    assert trained.best_step == 12
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    for name, tensor in trained.network.state_dict().items():
        assert torch.equal(tensor, last[f"network.{name}"])


def test_the_encoder_may_wait_and_then_learn_at_a_small_rate(cohort, tiny):
    config = tiny.model_copy(
        update={"steps": 2, "tune_every": 2, "batch_size": 2, "tune_crops": 2, "crop_px": 32}
    )
    mix = patient_crops(cohort, config)
    begun = dict(build_network(config).get_submodule("encoder").named_parameters())

    def encoder_moved(**changes: float) -> float:
        changed = config.model_copy(update=changes)
        trained = train_on(mix.train, mix.tune, changed, CPU).network
        after = trained.get_submodule("encoder").named_parameters()
        return sum(float((tensor - begun[name]).detach().abs().sum()) for name, tensor in after)

    assert encoder_moved(head_first_steps=2) == 0
    assert 0 < encoder_moved(encoder_rate=0.01) < encoder_moved() / 5


def test_a_training_says_how_far_it_is(cohort, tiny, tmp_path, monkeypatch):
    n_steps = 2 * HISTORY_EVERY
    config = tiny.model_copy(update={"steps": n_steps, "tune_every": n_steps, "batch_size": 2})
    volumes = {split: training_volumes(cohort, config, split) for split in ("train", "tune")}
    moves = []

    class Bar:
        def __init__(self, description: str, total: int) -> None:
            moves.append((description, total))

        def move(self, done: int, detail: str) -> None:
            moves.append((done, detail))

        def close(self) -> None:
            moves.append("closed")

    monkeypatch.setattr(train_module.progress, "Bar", Bar)
    mix = patient_crops(cohort, config)
    trained = train_on(mix.train, mix.tune, config, CPU, tmp_path)
    steps = [(row.step, f"loss {row.train_loss:.3f}") for row in trained.history.itertuples()]
    assert moves == [("training steps", n_steps), *steps, "closed"]
    moves.clear()
    crops = KilledCrops(volumes["train"], config, n_steps * config.batch_size, 0)
    crops.left = 1
    with pytest.raises(KilledError):
        train_on(crops, Crops(volumes["tune"], config, 4, 0), config, CPU)
    assert moves[-1] == "closed"


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_crops_are_drawn_beside_a_gpu_and_not_beside_a_busy_cpu(tiny, monkeypatch):
    monkeypatch.setattr(train_module.os, "cpu_count", lambda: 8)

    def workers(device: str, n_workers: int | None = None) -> int:
        config = tiny.model_copy(update={"n_workers": n_workers})
        crops = Crops([], config, 4, 0)
        return Batches(config, crops, crops, torch.device(device)).val_dataloader().num_workers

    assert (workers("cpu"), workers("cuda"), workers("cpu", 2), workers("cuda", 0)) == (0, 7, 2, 0)
