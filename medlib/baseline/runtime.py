"""What a trained network computes with: OpenVINO on a CPU without AMX, torch elsewhere."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable

import torch
from torch import nn

# OpenVINO reports that it is imported, and what it converts, unless this package is missing: so it
# always is.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

# Torch answers for so many pixels first: more than a scan of 300 slices has. On fewer OpenVINO
# saves less than the second that it takes to begin, and it wants 0.3 GiB more.
PAYS_PX = 256 * 320 * 320
SAME_LOGIT = 4e-4  # differs in the probability by less than 1e-4
# Sides of the images that a network is traced and checked with, in pixels: small, and no two alike,
# so that a size that was frozen into the graph shows.
TRACED_PX, CHECKED_PX = (32, 64), (96, 128)

Answer = Callable[[torch.Tensor], torch.Tensor]


class ForInference(nn.Module):
    """A trained network that answers in OpenVINO, in two thirds of torch's time on a CPU.

    It is compiled once there is enough to do, for as many threads as torch then has. Torch computes
    before (so answers repeat to rounding only), on a GPU, in training, where gradients are asked
    for, under autocast (OpenVINO keeps to single precision here), and where OpenVINO is missing,
    fails or disagrees, of which there is a warning. From the first answer on the weights stay.
    Torch answers for `pays_px` pixels first; `runtime_name` says what computed the last answer.
    """

    def __init__(self, network: nn.Module, pays_px: int = PAYS_PX) -> None:
        super().__init__()
        self.network = network
        self.pays_px = pays_px
        self.training = network.training
        self.runtime_name = "torch"
        self._compiled: Answer | None = None
        self._lock = threading.Lock()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits (batch, 1, y, x) of images (batch, n_slices, y, x)."""
        in_torch = (
            self.training
            or torch.is_grad_enabled()
            or image.device.type != "cpu"
            or torch.is_autocast_enabled("cpu")
        )
        if in_torch:
            return self._in_torch(image)
        with self._lock:  # two scans may be read at once
            if self._compiled is None and self.pays_px <= 0:
                self._compiled = self._compile(image.shape[1])
            self.pays_px -= image.shape[0] * image.shape[2] * image.shape[3]
            answer = self._compiled or self._in_torch
        return answer(image)

    def _in_torch(self, image: torch.Tensor) -> torch.Tensor:
        self.runtime_name = "torch"
        logits: torch.Tensor = self.network(image)
        return logits

    def _compile(self, n_slices: int) -> Answer:
        try:
            in_openvino = compiled(self.network, n_slices)
        except Exception as error:  # whatever it is, torch can do it
            warnings.warn(f"the network runs in torch, not in OpenVINO: {error}", stacklevel=2)
            return self._in_torch

        def answer(image: torch.Tensor) -> torch.Tensor:
            self.runtime_name = "OpenVINO"
            return in_openvino(image)

        return answer


@torch.inference_mode()
def compiled(network: nn.Module, n_slices: int) -> Answer:
    """Compile a network for OpenVINO, in single precision and for images of any size and number.

    What is returned may be called from several threads. Whatever is amiss, down to an answer that
    is not torch's, is raised.
    """
    import openvino

    with warnings.catch_warnings():  # tracing is deprecated, and traced conditions are frozen
        warnings.simplefilter("ignore")
        example = torch.zeros(1, n_slices, *TRACED_PX)
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            network, example, check_trace=False
        )
    model = openvino.convert_model(traced, input=[-1, n_slices, -1, -1], share_weights=False)
    hints = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        # Processes side by side would all be pinned to the same cores.
        "ENABLE_CPU_PINNING": False,
    }
    # One request, fed with copies: with several, OpenVINO 2026.4 writes the input of one into the
    # memory that another was given.
    request = openvino.Core().compile_model(model, "CPU", hints).create_infer_request()
    lock = threading.Lock()

    def answer(image: torch.Tensor) -> torch.Tensor:
        with lock:
            return torch.from_numpy(request.infer([image.contiguous().numpy()])[0])

    noise = torch.rand((2, n_slices, *CHECKED_PX), generator=torch.Generator().manual_seed(0))
    image = 2 * noise - 1
    difference = float((answer(image) - network(image)).abs().max())
    if not difference < SAME_LOGIT:
        raise RuntimeError(f"its logits differ by {difference:.1e}")
    return answer
