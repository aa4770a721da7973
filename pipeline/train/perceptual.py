"""LPIPS, the encoding baseline's distance, from weights that are at hand (Zhang et al. 2018)."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.method import EncodingConfig
from shards.errors import UserError

if TYPE_CHECKING:
    from torch import nn

_WEIGHTS = "alexnet-owt-7be5be79.pth"


def weights_file() -> Path:
    """Where torch keeps torchvision's AlexNet, the trunk of LPIPS."""
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = Path(os.environ.get("TORCH_HOME", f"{caches}/torch")).expanduser()
    return home / "hub" / "checkpoints" / _WEIGHTS


def resolve_perceptual(config: EncodingConfig) -> str:
    """`lpips`, or why there is no perceptual term.

    Raises:
        UserError: if LPIPS is asked for and something that it needs is missing.
    """
    if config.perceptual == "none":
        return "no perceptual term: switched off"
    missing = None
    if not weights_file().is_file():
        missing = f"{weights_file()} (torchvision's AlexNet) is not there"
    elif find_spec("torchmetrics") is None:
        missing = "torchmetrics is not installed (pip install torchmetrics)"
    if missing is None:
        return "lpips"
    if config.perceptual == "lpips":
        raise UserError(
            f"train.method.perceptual=lpips: {missing}; bring it, or leave the term out with "
            "train.method.perceptual=none"
        )
    return f"no perceptual term: {missing}"


def build_lpips() -> nn.Module:
    """LPIPS with AlexNet, frozen: two [n, 3, R, R] in [-1, 1] -> [n, 1, 1, 1]."""
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    network: nn.Module = LearnedPerceptualImagePatchSimilarity(net_type="alex").net
    return network.eval().requires_grad_(False)
