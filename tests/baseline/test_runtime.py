from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from medlib.baseline.config import TrainConfig
from medlib.baseline.device import has_fast_bfloat16
from medlib.baseline.network import build_network, without_normalisation
from medlib.baseline.network_passes import Model, slice_probability
from medlib.baseline.run import Run
from medlib.baseline.runtime import ForInference
from medlib.risk.evaluation_files import shipped_run

CPU = torch.device("cpu")
SHAPES = [(2, 320, 320), (7, 64, 64), (1, 96, 64)]  # images, rows and columns
SAME = 1e-4


@pytest.fixture(scope="module")
def shipped() -> dict[str, ForInference]:
    run = Run(shipped_run())
    networks = {"search": run.load_network(), "outliner": run.load_outliner().network}
    for network in networks.values():
        network.pays_px = 0
    return networks


def n_slices(which: str) -> int:
    run = Run(shipped_run())
    return (run.config if which == "search" else run.load_outliner().config).n_slices


def images(n: int, rows: int, columns: int, n_slices: int) -> torch.Tensor:
    """Noise of lung with dense discs in it."""
    rng = np.random.default_rng(n)
    image = rng.normal(-0.8, 0.05, (n, n_slices, rows, columns)).astype(np.float32)
    y, x = np.mgrid[:rows, :columns]
    for one in image:
        for radius in (3, 6, 12):
            row, column = rng.uniform(0, rows), rng.uniform(0, columns)
            one[:, np.hypot(y - row, x - column) < radius] = 0.5
    return torch.from_numpy(image)


def untrained(config: TrainConfig) -> nn.Module:
    torch.manual_seed(0)
    return without_normalisation(build_network(config, pretrained=False).eval())


@pytest.mark.parametrize("which", ["search", "outliner"])
@torch.inference_mode()
def test_a_shipped_network_answers_as_in_torch_in_any_shape(shipped, which):
    network = shipped[which]
    highest = 0.0
    for shape in (*SHAPES, *SHAPES):  # again, when each was seen
        image = images(*shape, n_slices(which))
        before = image.clone()
        found = network(image.to(memory_format=torch.channels_last)).sigmoid()
        expected = network.network(image).sigmoid()
        assert network.runtime_name == "OpenVINO"
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < SAME
        assert torch.equal(image, before)
        highest = max(highest, float(expected.max()))
    assert highest > 0.5  # there was something to differ in


@torch.inference_mode()
def test_an_answer_outlives_the_next_and_threads_take_turns(shipped):
    network = shipped["search"]
    batches = [images(*shape, n_slices("search")) for shape in SHAPES]
    expected = [network.network(batch) for batch in batches]

    @torch.inference_mode()
    def ask(k: int) -> tuple[int, torch.Tensor]:
        return k, network(batches[k])

    with ThreadPoolExecutor(3) as pool:
        for k, found in list(pool.map(ask, [0, 1, 2, 2, 1, 0, 1, 2])):
            assert (found - expected[k]).abs().max() < 1e-3


def test_a_scan_goes_through_it(shipped):
    network, config = shipped["search"], Run(shipped_run()).config
    hu = np.random.default_rng(0).normal(-800, 60, (5, 70, 90)).astype(np.float32)
    hu[:, 20:40, 30:50] = 40
    wanted = np.array([False, True, True, True, False])
    found = slice_probability(Model(network, config, CPU), hu, wanted)
    expected = slice_probability(Model(network.network, config, CPU), hu, wanted)
    assert np.abs(found - expected).max() < SAME
    assert found[wanted].max() > 0
    assert network.runtime_name == ("torch" if has_fast_bfloat16(CPU) else "OpenVINO")


@torch.inference_mode()
def test_a_little_is_done_in_torch_before_it_is_compiled(tiny: TrainConfig):
    network = ForInference(untrained(tiny), pays_px=3 * 64 * 64)
    used = []
    for _ in range(3):
        network(images(2, 64, 64, 3))
        used.append(network.runtime_name)
    assert used == ["torch", "torch", "OpenVINO"]


def test_it_is_a_torch_module(tiny: TrainConfig):
    inner = untrained(tiny)
    network = ForInference(inner, pays_px=0)
    assert not network.training
    assert network.to(CPU).eval() is network
    assert all(a is b for a, b in zip(network.parameters(), inner.parameters(), strict=True))
    image = images(1, 64, 64, 3)
    network(image).sum().backward()  # gradients are torch's
    assert network.runtime_name == "torch"
    assert next(network.parameters()).grad is not None
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        network(image)
    assert network.runtime_name == "torch"


def test_without_openvino_torch_answers(tiny: TrainConfig, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    network = ForInference(untrained(tiny), pays_px=0)
    image = images(2, 64, 64, 3)
    with torch.inference_mode():
        with pytest.warns(UserWarning, match="runs in torch, not in OpenVINO: .*openvino"):
            found = network(image)
        assert network.runtime_name == "torch"
        assert torch.equal(found, network.network(image))
        assert torch.equal(network(image), found)  # and does not warn again


class FrozenSize(nn.Module):
    """Adds the number of pixels, which a trace takes for a constant."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image[:, :1] + float(image.shape[2] * image.shape[3])


@torch.inference_mode()
def test_a_network_that_openvino_gets_wrong_stays_in_torch():
    network = ForInference(FrozenSize().eval(), pays_px=0)
    image = images(1, 64, 64, 3)
    with pytest.warns(UserWarning, match="logits differ by 1"):
        assert torch.equal(network(image), image[:, :1] + 64 * 64)
    assert network.runtime_name == "torch"


def test_a_training_never_sees_it(trained):
    assert not any(isinstance(part, ForInference) for part in trained.network.modules())


def test_nothing_is_reported_to_the_maker():
    import openvino.tools.ovc.telemetry_utils as reports

    assert sys.modules["openvino_telemetry"] is None
    assert reports.tm.__name__ == "openvino.tools.ovc.telemetry_stub"
