"""Writes random R3GAN checkpoints in the authors' layout, and computes what they make by the
equations.

The layout copies the golden file: plain pickled torch modules of classes that exist only while it
is written. The networks here share no code with the teacher's.
"""

from __future__ import annotations

import pickle
import re
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = Mapping[str, Tensor]
CLASSES = {
    "": "training.networks.Network",
    "Model": "R3GAN.Networks.Model",
    "Resampler": "R3GAN.Resamplers.InterpolativeUpsamplerCUDA",
    "NonLinearity": "R3GAN.FusedOperators.BiasedActivationCUDA",
}
OTHER = "R3GAN.Networks.Module"


@dataclass(frozen=True, kw_only=True)
class R3GANSpec:
    """A checkpoint to write; widths, blocks and cardinalities from 4 px up."""

    z_dim: int = 6
    widths: tuple[int, ...]
    num_blocks: tuple[int, ...]
    cardinalities: tuple[int, ...]
    expansion: int = 2
    kernel: int = 3
    num_classes: int = 0
    embedding_width: int = 5
    num_half_stages: int = 2
    image_channels: int = 3
    has_discriminator: bool = True


def write_r3gan(path: Path, spec: R3GANSpec) -> tuple[State, State]:
    """Writes a training snapshot; returns the state dicts of `G_ema` and `D`."""
    states = {name: _generator(spec, seed) for seed, name in enumerate(("G", "G_ema"))}
    if spec.has_discriminator:
        states["D"] = _discriminator(spec, 2)
    content: dict[str, Any] = {
        name: _as_module(state, _half_stages(spec, is_generator=name != "D"))
        for name, state in states.items()
    }
    with _importable():
        path.write_bytes(pickle.dumps(content | {"cur_nimg": 1000}, 4))
    return states["G_ema"], states.get("D", {})


def generate(spec: R3GANSpec, state: State, z: Tensor, classes: Tensor | None) -> list[Tensor]:
    """What every stage makes, and then the image."""
    x = z
    if classes is not None:
        x = torch.cat([x, state["Model.EmbeddingLayer.weight"].T[classes]], 1)
    found = []
    for index in range(len(spec.widths)):
        stage = f"Model.MainLayers.{index}.Layers"
        if index == 0:
            scale = F.linear(x, state[f"{stage}.0.LinearLayer.weight"])
            x = state[f"{stage}.0.Basis"] * scale[:, :, None, None]
        else:
            x = _maybe_project(state, f"{stage}.0.LinearLayer.Layer.weight", x)
            x = _fir(_with_zeros(x), 4 * state[f"{stage}.0.Resampler.Kernel"], 2, 1)
        for block in range(1, spec.num_blocks[index] + 1):
            x = _residual(spec, state, f"{stage}.{block}", x)
        found.append(x)
    return [*found, F.conv2d(x, state["Model.AggregationLayer.Layer.weight"])]


def discriminate(
    spec: R3GANSpec, state: State, image: Tensor, classes: Tensor | None
) -> list[Tensor]:
    """What every stage makes, and then the logits [B, 1]."""
    x = F.conv2d(image, state["Model.ExtractionLayer.Layer.weight"])
    found = []
    for index, num_blocks in enumerate(reversed(spec.num_blocks)):
        stage = f"Model.MainLayers.{index}.Layers"
        for block in range(num_blocks):
            x = _residual(spec, state, f"{stage}.{block}", x)
        if index < len(spec.widths) - 1:
            x = _fir(x, state[f"{stage}.{num_blocks}.Resampler.Kernel"], 1, 1)[:, :, ::2, ::2]
            x = _maybe_project(state, f"{stage}.{num_blocks}.LinearLayer.Layer.weight", x)
        else:
            products = (x * state[f"{stage}.{num_blocks}.Basis.weight"][:, 0]).sum((2, 3))
            x = F.linear(products, state[f"{stage}.{num_blocks}.LinearLayer.weight"])
        found.append(x)
    if classes is not None:
        x = (x * state["Model.EmbeddingLayer.weight"].T[classes]).sum(1, keepdim=True)
    return [*found, x]


def _residual(spec: R3GANSpec, state: State, name: str, x: Tensor) -> Tensor:
    y = F.conv2d(x, state[f"{name}.LinearLayer1.Layer.weight"])
    y = F.leaky_relu(y + state[f"{name}.NonLinearity1.Bias"][:, None, None], 0.2)
    weight = state[f"{name}.LinearLayer2.Layer.weight"]
    parts = y.split(weight.shape[1], 1)  # the groups, one after the other
    weights = weight.split(len(weight) // len(parts))
    pairs = zip(parts, weights, strict=True)
    y = torch.cat([F.conv2d(part, w, padding=spec.kernel // 2) for part, w in pairs], 1)
    y = F.leaky_relu(y + state[f"{name}.NonLinearity2.Bias"][:, None, None], 0.2)
    return x + F.conv2d(y, state[f"{name}.LinearLayer3.Layer.weight"])


def _maybe_project(state: State, name: str, x: Tensor) -> Tensor:
    return F.conv2d(x, state[name]) if name in state else x


def _with_zeros(x: Tensor) -> Tensor:
    spread = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    spread[:, :, ::2, ::2] = x
    return spread


def _fir(x: Tensor, kernel: Tensor, before: int, after: int) -> Tensor:
    channels = x.shape[1]
    x = F.pad(x, [before, after, before, after])
    return F.conv2d(x, kernel.flip(0, 1).expand(channels, 1, -1, -1), groups=channels)


class _Drawer:
    """Tensors of a network, in its order."""

    def __init__(self, spec: R3GANSpec, seed: int) -> None:
        self._spec = spec
        self._generator = torch.Generator().manual_seed(seed)
        self.state: dict[str, Tensor] = {}

    def draw(self, name: str, *shape: int) -> None:
        scale = (torch.Size(shape[1:]).numel() or 1) ** -0.5
        self.state[f"Model.{name}"] = scale * torch.randn(shape, generator=self._generator)

    def blocks(self, stage: int, index: int, first: int) -> None:
        spec = self._spec
        width = spec.widths[index]
        hidden, groups = width * spec.expansion, spec.cardinalities[index]
        for block in range(first, first + spec.num_blocks[index]):
            name = f"MainLayers.{stage}.Layers.{block}"
            self.draw(f"{name}.LinearLayer1.Layer.weight", hidden, width, 1, 1)
            per_group = hidden // groups
            kernel = spec.kernel
            self.draw(f"{name}.LinearLayer2.Layer.weight", hidden, per_group, kernel, kernel)
            self.draw(f"{name}.LinearLayer3.Layer.weight", width, hidden, 1, 1)
            for number in (1, 2):
                self.draw(f"{name}.NonLinearity{number}.Bias", hidden)

    def resampling(self, name: str, num_in: int, num_out: int) -> None:
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.state[f"Model.{name}.Resampler.Kernel"] = torch.outer(taps, taps) / 64
        if num_in != num_out:
            self.draw(f"{name}.LinearLayer.Layer.weight", num_out, num_in, 1, 1)

    def embedding(self) -> None:
        if self._spec.num_classes:
            width = self._spec.embedding_width
            self.draw("EmbeddingLayer.weight", width, self._spec.num_classes)


def _generator(spec: R3GANSpec, seed: int) -> State:
    drawer = _Drawer(spec, seed)
    in_features = spec.z_dim + (spec.embedding_width if spec.num_classes else 0)
    for index, width in enumerate(spec.widths):
        name = f"MainLayers.{index}.Layers.0"
        if index == 0:
            drawer.draw(f"{name}.Basis", width, 4, 4)
            drawer.draw(f"{name}.LinearLayer.weight", width, in_features)
        else:
            drawer.resampling(name, spec.widths[index - 1], width)
        drawer.blocks(index, index, first=1)
    drawer.draw("AggregationLayer.Layer.weight", spec.image_channels, spec.widths[-1], 1, 1)
    drawer.embedding()
    return drawer.state


def _discriminator(spec: R3GANSpec, seed: int) -> State:
    drawer = _Drawer(spec, seed)
    last = len(spec.widths) - 1
    drawer.draw("ExtractionLayer.Layer.weight", spec.widths[-1], spec.image_channels, 1, 1)
    for stage in range(last + 1):
        index = last - stage
        drawer.blocks(stage, index, first=0)
        name = f"MainLayers.{stage}.Layers.{spec.num_blocks[index]}"
        if index:
            drawer.resampling(name, spec.widths[index], spec.widths[index - 1])
            continue
        drawer.draw(f"{name}.Basis.weight", spec.widths[0], 1, 4, 4)
        num_outputs = spec.embedding_width if spec.num_classes else 1
        drawer.draw(f"{name}.LinearLayer.weight", num_outputs, spec.widths[0])
    drawer.embedding()
    return drawer.state


def _half_stages(spec: R3GANSpec, *, is_generator: bool) -> set[int]:
    last, num = len(spec.widths), spec.num_half_stages
    return set(range(last - num, last)) if is_generator else set(range(num))


def _as_module(state: State, half_stages: set[int]) -> Any:
    """The tree of modules with these tensors."""

    def build(prefix: str) -> Any:
        inside = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
        own = {name: tensor for name, tensor in inside.items() if "." not in name}
        names = dict.fromkeys(name.partition(".")[0] for name in inside if "." in name)
        module = _class_of(prefix)()
        module.__dict__ |= {
            "training": False,
            "_parameters": {n: nn.Parameter(t) for n, t in own.items() if n != "Kernel"},
            "_buffers": {n: t for n, t in own.items() if n == "Kernel"},
            "_modules": {name: build(f"{prefix}{name}.") for name in names},
        }
        if match := re.fullmatch(r"Model\.MainLayers\.(\d+)\.", prefix):
            is_half = int(match[1]) in half_stages
            module.DataType = torch.bfloat16 if is_half else torch.float32
        return module

    return build("")


_MADE: dict[str, type] = {}


def _class_of(prefix: str) -> type:
    last = re.sub(r"\d+$", "", prefix.rstrip(".").rpartition(".")[2])
    path = CLASSES.get(last, OTHER)
    module, _, name = path.rpartition(".")
    return _MADE.setdefault(path, type(name, (), {"__module__": module}))


@contextmanager
def _importable() -> Iterator[None]:
    """The classes, where the pickle says they are, until the block ends."""
    try:
        for path, made in _MADE.items():
            package = path.rpartition(".")[0]
            for name in (package.partition(".")[0], package):
                sys.modules.setdefault(name, types.ModuleType(name))
            setattr(sys.modules[package], made.__name__, made)
        yield
    finally:
        for path in _MADE:
            package = path.rpartition(".")[0]
            for name in (package.partition(".")[0], package):
                sys.modules.pop(name, None)
