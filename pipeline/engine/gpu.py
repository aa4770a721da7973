"""Keeping a GPU busy: half precision, compiled networks, and steps that never wait for the device.

Neighbours: both trainers, and rendering. On a CPU nothing here changes what they do.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.config.hardware import CompileMode
from shards.errors import UserError

Precision = Literal["auto", "float32", "bfloat16"]


def choose_precision(wanted: Precision, device: torch.device) -> torch.dtype:
    """Arithmetic of a training's networks; `auto`: bfloat16 on a GPU that has it, else float32."""
    if wanted == "auto":
        has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if has_bfloat16 else torch.float32
    return torch.bfloat16 if wanted == "bfloat16" else torch.float32


def choose_compile_mode(wanted: CompileMode, device: torch.device) -> str | None:
    """torch.compile's mode, None for not at all. `auto` compiles for a GPU, where a C compiler is
    at hand, which Triton needs.
    """
    if wanted != "auto":
        return None if wanted == "off" else wanted
    has_compiler = any(shutil.which(name) for name in ("cc", "gcc", "clang"))
    can_compile = has_compiler and importlib.util.find_spec("triton") is not None
    return "default" if device.type == "cuda" and can_compile else None


def compile_in_place(network: nn.Module, mode: str | None) -> None:
    """Let torch.compile rewrite the forward and backward pass of `network`; its parameters, their
    names and, but for rounding, its results stay what they are. It must have a `forward` of its
    own: of an `nn.Sequential` nothing would be compiled.
    """
    if mode is not None:
        network.compile(mode=mode, dynamic=False)


def begin_step(mode: str | None) -> None:
    """Say that CUDA graphs, if `mode` has them, may overwrite the last step's tensors."""
    if mode is not None:
        torch.compiler.cudagraph_mark_step_begin()


def on_host(array: np.ndarray, device: torch.device) -> Tensor:
    """`array` as a CPU tensor; page-locked for a GPU, which then copies it by itself."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory() if device.type == "cuda" else tensor


class HostCopy:
    """Tensors on their way from `device` to the CPU; from a GPU they travel while it goes on."""

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        self._tensors = {
            name: tensor.to("cpu", non_blocking=True) for name, tensor in tensors.items()
        }
        self._copied: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._copied = torch.cuda.Event()
            self._copied.record()

    def wait(self) -> dict[str, Tensor]:
        """The tensors, once they have arrived."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._tensors


class Fetched:
    """One number on its way from the device to the host, which goes on giving out work."""

    def __init__(self, value: Tensor) -> None:
        """Takes a scalar that nothing will change."""
        self._copy = HostCopy({"value": value.detach()}, value.device)

    def get(self) -> float:
        """The number; waits until the device has got as far."""
        return float(self._copy.wait()["value"])


class LossGuard:
    """Stops a training whose loss is not finite.

    On a CPU before the optimiser sees it; on a GPU a step later, because to ask at once would keep
    it waiting. `settle` before anything is saved, so that nothing of such a step is.
    """

    def __init__(self) -> None:
        self._pending: tuple[Fetched, str] | None = None

    def watch(self, loss: Tensor, problem: str) -> None:
        """Account for a step's `loss`; `problem` is what to say if it is not finite.

        Raises:
            UserError: if this step's loss, or on a GPU the last one's, is not finite.
        """
        is_finite = Fetched(loss.detach().isfinite())
        self.settle()
        self._pending = is_finite, problem
        if loss.device.type != "cuda":
            self.settle()

    def settle(self) -> None:
        """Wait for the last loss; raises as `watch` does."""
        if self._pending is not None:
            is_finite, problem = self._pending
            self._pending = None
            if not is_finite.get():
                raise UserError(problem)
