from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import STORED, marked

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
    ),
]


@pytest.mark.parametrize("device", DEVICES)
def test_the_shipped_weights_give_the_stored_mask(device: str):
    with np.load(STORED) as stored:
        shape = tuple(stored["shape"])
        mask = np.unpackbits(stored["mask"], count=np.prod(shape)).reshape(shape).astype(bool)
        weights = str(stored["weights"])
    found, _, used = marked(torch.device(device))
    assert used == weights, "other weights are shipped: python tests/baseline/golden.py"
    assert mask.sum() > 500
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.99
