from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medlib.baseline import processes
from medlib.errors import RunError

SCRIPT = Path(__file__).with_name("two_processes.py")
BATCH = 8


def test_a_batch_is_divided_evenly_or_not_at_all(monkeypatch: pytest.MonkeyPatch):
    assert (processes.rank(), processes.count(), processes.share_of(6)) == (0, 1, 6)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert processes.share_of(8) == 2
    with pytest.raises(RunError, match="a batch of 6 crops cannot be divided among 4 processes"):
        processes.share_of(6)


def test_two_processes_see_the_crops_of_one_in_the_same_order(tmp_path: Path):
    together = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for name, start in (("one", [sys.executable]), ("two", [*together, "2"])):
        (tmp_path / name).mkdir()
        done = subprocess.run(
            [*start, str(SCRIPT), str(tmp_path / name)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def drawn(name: str, rank: int) -> np.ndarray:
        return np.array(json.loads((tmp_path / name / f"drawn-{rank}.json").read_text()))

    alone = drawn("one", 0).reshape(-1, BATCH)
    halves = [drawn("two", rank).reshape(-1, BATCH // 2) for rank in (0, 1)]
    assert np.array_equal(np.sort(np.hstack(halves), axis=1), alone)

    # The same crops, but Dice and normalisation are taken over half a batch each.
    losses = [
        pd.read_csv(tmp_path / name / "history.csv")["tune_loss"].dropna()
        for name in ("one", "two")
    ]
    assert losses[0].iloc[-1] < 0.9 * losses[0].iloc[0]
    assert losses[1].iloc[-1] == pytest.approx(losses[0].iloc[-1], rel=0.25)
