"""Projected GAN's generator (autonomousvision/projected-gan, cfg `fastgan` and `fastgan_lite`) ->
architecture and tensors.

The pickle holds `G`, `D` and `G_ema`, plain modules. `D` judges the features of another network,
which is no teacher's, and stays where it is. Neighbour: `fastgan.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from pipeline.teacher.architectures.projected_gan import ProjectedGANArchitecture
from pipeline.teacher.importing.fastgan import FoldedNetwork
from pipeline.teacher.importing.imported import Imported
from pipeline.teacher.importing.infer import Converted
from pipeline.teacher.importing.source import Source
from pipeline.teacher.importing.states import StateDict
from pipeline.teacher.spelling import Spelling

LAYOUT = "Projected GAN"
AVERAGED = "G_ema"
PREFIX = "synthesis."
_SIGNS = (f"{PREFIX}init.init.0.weight_orig", f"{PREFIX}to_big.weight_orig")
_FULL, _LITE = ("5", "conv2"), ("1", "conv")
"""The last convolution of a block, without classes and with them."""


def recognises(source: Source) -> bool:
    """Whether the file has such a generator, as a module or as its state."""
    return bool(_find(source))


def convert(source: Source) -> Imported:
    """The generator `G_ema`, or the only one there is.

    Raises:
        ValueError: if it is not one of this code.
    """
    found = _find(source)
    place = AVERAGED if AVERAGED in found else next(iter(found))
    state = found[place]
    notes = []
    if isinstance(source.content, dict) and source.content.get("D") is not None:
        notes.append("the discriminator judges features of another network and is left out")
    return Imported(
        LAYOUT,
        convert_generator(state.load(), state.spelling),
        notes=tuple(notes),
        weights=place,
        is_averaged=True if place == AVERAGED else None,
    )


def convert_generator(
    tensors: Mapping[str, Tensor], spelling: Spelling
) -> Converted[ProjectedGANArchitecture]:
    """The generator with these tensors, whose names start with `synthesis.`.

    Raises:
        ValueError: if they are not those of one, in `spelling`.
    """
    inner = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    network = FoldedNetwork(inner, Spelling(lambda name: spelling.name(f"{PREFIX}{name}")))
    is_lite = not any(f"feat_8.{conv}.weight" in network.tensors for conv in _FULL)
    widths = network.widths(*(_LITE if is_lite else _FULL))
    image_channels, top_width = network.shape("to_big.weight")[:2]
    resolution = max(widths)
    if resolution == 256 and widths[256] != top_width:  # made in any case, but without a use
        resolution = 128
    embedding = network.tensors.get("embed.weight")
    arch = ProjectedGANArchitecture(
        z_dim=network.shape("init.init.0.weight")[0],
        widths=tuple(width for side, width in widths.items() if side <= resolution),
        is_lite=is_lite,
        image_channels=image_channels,
        num_classes=0 if embedding is None else len(embedding),
    )
    used = {
        f"{PREFIX}{name}": tensor
        for name, tensor in network.tensors.items()
        if not (side := re.match(r"(?:feat|se)_(\d+)\.", name)) or int(side[1]) <= resolution
    }
    return Converted(arch, used, network.spelling.without(PREFIX))


def _find(source: Source) -> dict[str, StateDict]:
    """Generators by the keys that lead to them."""
    return {p: s for p, s in source.states.items() if all(name in s.entries for name in _SIGNS)}
