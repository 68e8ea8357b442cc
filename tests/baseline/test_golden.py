from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import CASES, STORED, marked, weights

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
    ),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_the_shipped_weights_give_the_stored_mask(name: str, device: str):
    with np.load(STORED) as stored:
        shape = tuple(stored[f"{name}_shape"])
        mask = np.unpackbits(stored[name], count=np.prod(shape)).reshape(shape).astype(bool)
        of_weights = str(stored["weights"])
    assert weights() == of_weights, "other weights are shipped: python tests/baseline/golden.py"
    found = marked(CASES[name]()[0], torch.device(device))
    assert mask.sum() > 500
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.99
