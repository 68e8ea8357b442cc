"""Training in several processes: on several devices of one machine, or of several machines.

``torchrun --nproc-per-node N -m medlib train ...`` starts them and says in the environment who is
who. The batch of a step is divided among them, so that each step sees the same crops whatever their
number; the first process alone writes.
"""

from __future__ import annotations

import os

from medlib.errors import RunError


def rank() -> int:
    """Return the number of this process; 0 is the first, or the only one."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """Return how many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def count_here() -> int:
    """Return how many of them run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def share_of(batch_size: int) -> int:
    """Return how many crops of a batch this process takes; RunError if it cannot be divided."""
    if batch_size % count():
        raise RunError(
            f"a batch of {batch_size} crops cannot be divided among {count()} processes; start a "
            "number of processes that divides it"
        )
    return batch_size // count()
