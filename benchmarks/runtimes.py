"""On a CPU: OpenVINO as it is shipped, torch, compiled torch, ONNX Runtime, on the same slices.

    python benchmarks/runtimes.py [--run RUN] [--slices 16] [--rounds 5] [--out FILE]

Each runtime sees the same batches of noise and balls through the network that searches, in single
precision and with as many threads as torch has. Printed are the milliseconds a slice (the fastest
of the rounds, which take turns), the ratio to the shipped way, the time until the first answer, and
the largest difference of a probability. A runtime that is not installed is left out. The result
goes to reference_runs/speed/runtimes.json, which chapter 4 shows; with other options it is printed
only, unless ``--out`` names a file.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from record import machine, place, write
from torch import nn

from medlib.baseline.config import TrainConfig
from medlib.baseline.network import load_weights
from medlib.baseline.run import WEIGHTS, Run
from medlib.paths import REFERENCE_RUNS
from medlib.risk.evaluation_files import shipped_run

RESULT = REFERENCE_RUNS / "speed" / "runtimes.json"
SIDE_PX = 320
SLICES, ROUNDS = 16, 5
PER_BATCH = 2  # as `medlib.baseline.network_passes.BATCH_PX` has it for this side
Runtime = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def slices(n: int, config: TrainConfig) -> NDArray[np.float32]:
    """Draw inputs (n, n_slices, y, x) in -1..1: noise of air, with balls of soft tissue."""
    rng = np.random.default_rng(0)
    image = rng.normal(-0.8, 0.05, (n, config.n_slices, SIDE_PX, SIDE_PX)).astype(np.float32)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    for k in range(n):
        for _ in range(12):
            row, column = rng.uniform(0, SIDE_PX, 2)
            image[k][:, np.hypot(y - row, x - column) < rng.uniform(2, 14)] = 0.5
    return image


def called(network: nn.Module) -> Runtime:
    """Call as `medlib.baseline.network_passes` does, pixels' channels last; in single precision."""

    @torch.inference_mode()
    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        batch = torch.from_numpy(image).to(memory_format=torch.channels_last)
        return np.asarray(network(batch).sigmoid().numpy())

    return run


def in_onnx_runtime(path: Path) -> Runtime:
    """Run in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: np.asarray(session.run(None, {name: image})[0])


class Probability(nn.Module):
    """The network with the step from logit to probability, for export."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return probabilities."""
        probability: torch.Tensor = self.network(image).sigmoid()
        return probability


def export(network: nn.Module, example: NDArray[np.float32], path: Path) -> Path:
    """Write the network as ONNX, for batches of one size."""
    import onnx  # noqa: F401  # torch says that it is missing in a way of its own

    torch.onnx.export(
        Probability(network), (torch.from_numpy(example),), path, dynamo=False, opset_version=17
    )
    return path


def main() -> None:
    """Time each runtime and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=None)
    parser.add_argument("--slices", type=int, default=SLICES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    run = Run(given.run or shipped_run())
    image = slices(given.slices, run.config)
    batches = [image[k : k + PER_BATCH] for k in range(0, len(image), PER_BATCH)]
    shipped = run.load_network()
    shipped.pays_px = 0  # at once
    folded = shipped.network
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        makers: dict[str, Callable[[], Runtime]] = {
            "shipped": lambda: called(shipped),
            "torch, normalisation folded": lambda: called(folded),
            "torch, as trained": lambda: called(load_weights(run.config, run.folder / WEIGHTS)),
            "torch.compile": lambda: called(torch.compile(folded)),
            "ONNX Runtime": lambda: in_onnx_runtime(export(folded, batches[0], path)),
        }
        ready: dict[str, tuple[Runtime, float]] = {}
        left_out: dict[str, str] = {}
        for name, make in makers.items():
            start = time.perf_counter()
            try:
                runtime = make()
                runtime(batches[0])
            except Exception as error:  # not installed, or no compiler: the others can be measured
                if name == "shipped":  # they are held against it
                    raise
                left_out[name] = str(error).splitlines()[0]
                print(f"{name}: left out, {left_out[name]}")
                continue
            ready[name] = runtime, time.perf_counter() - start
        seconds = dict.fromkeys(ready, np.inf)
        answers: dict[str, NDArray[np.float32]] = {}
        for _ in range(given.rounds):
            for name, (runtime, _) in ready.items():
                start = time.perf_counter()
                found = [runtime(batch) for batch in batches]
                seconds[name] = min(seconds[name], time.perf_counter() - start)
                answers[name] = np.concatenate(found)
    print(f"{len(image)} slices of {SIDE_PX} x {SIDE_PX}, {torch.get_num_threads()} threads")
    print(f"shipped is {shipped.runtime_name}")
    print(f"{'':40}{'ms a slice':>12}{'ratio':>8}{'first (s)':>11}{'difference':>12}")
    rows = []
    for name, (_, first) in ready.items():
        row = {
            "runtime": name,
            "ms_a_slice": round(1000 * seconds[name] / len(image), 1),
            "ratio": round(seconds[name] / seconds["shipped"], 2),
            "first_answer_s": round(first, 1),
            "largest_difference": float(np.abs(answers[name] - answers["shipped"]).max()),
        }
        rows.append(row)
        print(
            f"{name:40}{row['ms_a_slice']:12.1f}{row['ratio']:8.2f}{row['first_answer_s']:11.1f}"
            f"{row['largest_difference']:12.1e}"
        )
    result = {
        "what": f"the network that searches, {len(image)} slices of {SIDE_PX} x {SIDE_PX}, fastest "
        f"of {given.rounds} rounds that take turns",
        "machine": machine("torch", "openvino", "onnxruntime"),
        "threads": torch.get_num_threads(),
        "shipped": shipped.runtime_name,
        "weights_sha256": run.weights_sha256(),
        "runtimes": rows,
        "left_out": left_out,
    }
    as_stored = given.run is None and (given.slices, given.rounds) == (SLICES, ROUNDS)
    out = place(given.out, RESULT, as_stored=as_stored)
    if out:
        write(result, out)


if __name__ == "__main__":
    main()
