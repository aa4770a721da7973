"""Networks as files of spectrally normalised ones have them; torch's own hook is the reference."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

Network = TypeVar("Network", bound=nn.Module)


def with_spectral_norm(network: Network) -> Network:
    """A copy whose convolutions and linear layers compute with normalised weights, in evaluation
    mode: that is, with the vectors as they are stored.
    """
    normalised = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for module in normalised.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                module.weight.requires_grad_()
                spectral_norm(module, n_power_iterations=3).train()
                is_linear = isinstance(module, nn.Linear)
                width = module.in_features if is_linear else module.in_channels
                module(torch.zeros((1, width) if is_linear else (1, width, 4, 4)))
    return normalised.eval().requires_grad_(False)


def state_of(network: nn.Module, drop: str = "", add: str = "") -> dict[str, Tensor]:
    """Its state dict with the prefix `add` in the place of `drop`."""
    return {f"{add}{n.removeprefix(drop)}": x.clone() for n, x in network.state_dict().items()}
