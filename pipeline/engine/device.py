"""Which device a process computes on."""

from __future__ import annotations

import torch

from shards.errors import UserError


def choose_device(wanted: str) -> torch.device:
    """`hardware.device` resolved: `auto` is the GPU where the process sees one.

    Raises:
        UserError: if "cuda" is wanted and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "hardware.device: cuda asked for, but this process sees no GPU; use auto or cpu"
        )
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
