"""Weights that a file holds with their spectral normalisation (Miyato et al. 2018) -> those that
the network computes with: what `torch.nn.utils.spectral_norm` makes of them in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from torch import Tensor

from pipeline.teacher.spelling import Spelling

Value = TypeVar("Value")


def fold_spectral_norm(
    tensors: Mapping[str, Tensor], spelling: Spelling, transposed: Collection[str] = ()
) -> dict[str, Tensor]:
    """`tensors` with `….weight` in place of `….weight_orig`, `….weight_u` and `….weight_v`.

    The weight is divided by u · (W v) with the stored u and v, without another iteration. W has the
    output channels first; the modules `transposed` store them second.

    Raises:
        ValueError: naming a vector that is missing or of another length, in `spelling`, or a weight
            whose norm is zero.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        if kind in ("weight_u", "weight_v"):
            continue
        if kind != "weight_orig":
            found[name] = tensor
            continue
        if tensor.dim() < 2:
            raise ValueError(
                f"{spelling.name(name)}: expected a weight, found {list(tensor.shape)}"
            )
        matrix = (tensor.transpose(0, 1) if module in transposed else tensor).flatten(1).double()
        vectors = []
        for letter, length in zip("uv", matrix.shape, strict=True):
            vector = tensors.get(f"{module}.weight_{letter}")
            if vector is None or list(vector.shape) != [length]:
                wanted = spelling.name(f"{module}.weight_{letter}")
                raise ValueError(f"{wanted}: expected a vector of {length} beside the weight")
            vectors.append(vector.double())
        norm = vectors[0] @ matrix @ vectors[1]
        if norm == 0:
            raise ValueError(f"{spelling.name(name)}: its spectral norm is zero")
        found[f"{module}.weight"] = tensor.float() / norm
    return found


def name_before_folding(tensors: Mapping[str, Value]) -> Callable[[str], str]:
    """A file's names, from those of its folded tensors."""
    weights = {
        f"{name.removesuffix(suffix)}.weight"
        for suffix in (".weight_orig", ".weight_u", ".weight_v")
        for name in tensors
        if name.endswith(suffix)
    }
    return lambda name: f"{name}_orig" if name in weights else name
