"""Kill a training at random moments, ten times, and compare its end with one that was left alone.

    python benchmarks/kill_and_resume.py

Each training is a process; it is killed (SIGKILL) after a random time, started again, and so on
until it was killed as often as wanted and may end. Weights and curves must be the same to the bit;
where they differ the exit code is 1. The result goes to reference_runs/speed/kill_and_resume.json,
which chapter 4 shows; with other options it is printed only, unless ``--out`` names a file.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from record import machine, place, write

from medlib.baseline.config import train_config
from medlib.baseline.network import save_weights
from medlib.baseline.train import train_on
from medlib.baseline.training_mix import patient_crops
from medlib.cohorts.cohort import open_cohort
from medlib.paths import REFERENCE_RUNS

RESULT = REFERENCE_RUNS / "speed" / "kill_and_resume.json"
STEPS, LOOK_EVERY = 120, 6
TIMES = 10


def train_once(folder: Path) -> None:
    """Train a short run of the quick profile, or go on with it."""
    cohort = open_cohort("phantom", "quick", 0)
    config = train_config("quick").model_copy(
        update={"steps": STEPS, "tune_every": LOOK_EVERY, "tune_crops": 16, "batch_size": 4}
        | {"patience": STEPS}  # no early end: there must be time for all kills
    )
    mix = patient_crops(cohort, config)
    (folder / "begun").write_text("")
    trained = train_on(
        mix.train, mix.tune, config, torch.device("cpu"), folder / "checkpoints"
    )
    save_weights(trained.network, folder / "weights.safetensors")
    trained.history.drop(columns="seconds").to_csv(folder / "history.csv", index=False)


def run(folder: Path, kill_after: float | None) -> bool:
    """Run the training in a process; kill it so many seconds after it begins to train.

    Returns whether it came to its end. Any other end than that and the kill ends the benchmark.
    """
    folder.mkdir(exist_ok=True)
    (folder / "checkpoints").mkdir(exist_ok=True)
    begun = folder / "begun"
    begun.unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, __file__, "--train", str(folder)])
    if kill_after is not None:
        while not begun.exists() and process.poll() is None:
            time.sleep(0.05)
        time.sleep(kill_after)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
    code = process.wait()
    if code not in (0, -signal.SIGKILL) or (code and kill_after is None):
        sys.exit(f"a training ended by itself with exit code {code}")
    return code == 0


def digest(folder: Path) -> tuple[str, str]:
    """Return the checksums of weights and curves."""
    files = (folder / "weights.safetensors", folder / "history.csv")
    weights, curves = (hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    return weights, curves


def main() -> None:
    """Compare a killed training with one that was not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.train:
        train_once(given.train)
        return
    rng = np.random.default_rng(given.seed)
    with TemporaryDirectory() as temporary:
        alone, killed = Path(temporary, "alone"), Path(temporary, "killed")
        run(alone, None)
        training = time.time() - (alone / "begun").stat().st_mtime
        resumed_from = []
        for number in range(given.times):
            after = float(rng.uniform(1, training / given.times))  # so that all kills fit
            ended = run(killed, after)
            last = killed / "checkpoints" / "last.ckpt"
            step = torch.load(last, weights_only=False)["global_step"] if last.exists() else 0
            if ended:
                sys.exit(f"it ended before it could be killed {number + 1} times")
            resumed_from.append(int(step))
            print(f"killed {number + 1}, {after:.1f} s after it began: saved up to step {step}",
                  flush=True)  # fmt: skip
        if not any(resumed_from):
            sys.exit("every kill came before the first checkpoint: nothing was resumed")
        run(killed, None)
        pairs = zip(("weights", "curves"), digest(alone), digest(killed), strict=True)
        differ = [what for what, one, other in pairs if one != other]
        rows = [len(pd.read_csv(folder / "history.csv")) for folder in (alone, killed)]
        print(f"rows of curves: {rows[0]} alone, {rows[1]} killed; differ: {differ or 'nothing'}")
    result = {
        "what": "a training killed (SIGKILL) at random moments beside one left alone",
        "machine": machine("torch", "lightning"),
        "steps": STEPS,
        "saved_step_at_each_kill": resumed_from,
        "rows_of_curves": dict(zip(("alone", "killed"), rows, strict=True)),
        "differ": differ,
    }
    out = place(given.out, RESULT, as_stored=(given.times, given.seed) == (TIMES, 0))
    if out:
        write(result, out)
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()
