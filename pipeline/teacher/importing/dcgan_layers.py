"""A state dict -> the layers of a DCGAN, if it is one: convolutions in a chain, each perhaps
followed by a batch normalisation.

Neighbour: `dcgan.py` makes networks of them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from pipeline.teacher.architectures.sizes import IMAGE_CHANNELS
from pipeline.teacher.importing.states import StateDict

_NORM_KINDS = {"weight", "bias", "running_mean", "running_var"}


class Layer(NamedTuple):
    """A convolution of the file, and the norm after it, "" for none."""

    conv: str
    norm: str
    shape: tuple[int, ...]
    has_bias: bool


def generator_layers(state: StateDict) -> list[Layer]:
    """Transposed convolutions in a chain from a latent to an image; none for anything else."""
    layers = _layers(state)
    widths = [layer.shape[:2] for layer in layers]
    is_chain = all(below[1] == above[0] for below, above in pairwise(widths))
    return layers if is_chain and layers and widths[-1][1] in IMAGE_CHANNELS else []


def discriminator_layers(state: StateDict) -> list[Layer]:
    """Convolutions in a chain from an image to one number; none for anything else."""
    layers = _layers(state)
    widths = [layer.shape[1::-1] for layer in layers]
    is_chain = all(below[1] == above[0] for below, above in pairwise(widths))
    is_judge = is_chain and layers and widths[0][0] in IMAGE_CHANNELS and widths[-1][1] == 1
    return layers if is_judge else []


def _layers(state: StateDict) -> list[Layer]:
    """Convolutions and norms in their order; none if there is anything else, or only one."""
    modules: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in state.shapes.items():
        module, _, kind = name.rpartition(".")
        modules.setdefault(module, {})[kind] = shape
    layers: list[Layer] = []
    for module, kinds in modules.items():
        weight = kinds.get("weight", ())
        if len(weight) == 4 and weight[2] == weight[3] and kinds.keys() <= {"weight", "bias"}:
            layers.append(Layer(module, "", weight, "bias" in kinds))
        elif kinds.keys() - {"num_batches_tracked"} == _NORM_KINDS and layers:
            if layers[-1].norm:
                return []
            layers[-1] = layers[-1]._replace(norm=module)
        else:
            return []
    return layers if len(layers) > 1 else []
