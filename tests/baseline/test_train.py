from __future__ import annotations

import torch

from medlib.annotation.reference import reference_mask
from medlib.baseline.config import TrainConfig
from medlib.baseline.inference import predict_volume
from medlib.baseline.slices import training_volumes
from medlib.baseline.train import HISTORY_EVERY, Trained, train

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
    volumes = training_volumes(cohort.cases("train"), config, "train", set())
    tune = training_volumes(cohort.cases("tune"), config, "tune", set())

    def weights(seed: int) -> list[torch.Tensor]:
        trained = train(config.model_copy(update={"seed": seed}), volumes, tune, CPU)
        return list(trained.network.state_dict().values())

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
