"""Which device computes, in which precision."""

from __future__ import annotations

import platform

import torch


def best_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Tell whether the device multiplies bfloat16 in hardware; elsewhere it is slower than float32.

    On a CPU it does not pay: the convolutions of the default encoder, which see one channel each,
    take twice as long, with AMX too, though plain ones gain a third. So all CPUs compute alike.
    """
    return device.type == "cuda" and bool(torch.cuda.is_bf16_supported(including_emulation=False))


def describe(device: torch.device) -> str:
    """Name the device for people, without naming the machine."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"CPU {platform.machine()} {instructions}, {torch.get_num_threads()} threads"
