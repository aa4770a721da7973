"""Files of lucidrains/stylegan2-pytorch -> architectures and tensors.

A file holds `S`, `G`, the averaged `SE` and `GE`, `D`, and `D_aug.D`, which is `D` once more. A
`.config.json` beside it says what no tensor does. No mean of w is stored: it is computed here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.samples.seeding import torch_generator
from pipeline.teacher.architectures.lucidrains import (
    LucidrainsArchitecture,
    LucidrainsDiscriminatorArchitecture,
)
from pipeline.teacher.checkpoint import fill
from pipeline.teacher.importing.imported import Imported
from pipeline.teacher.importing.infer import Converted
from pipeline.teacher.importing.source import Source
from pipeline.teacher.importing.states import StateDict, find_states
from pipeline.teacher.networks.lucidrains import StyleVectorizer
from pipeline.teacher.spelling import Spelling
from pipeline.teacher.unfilled import unfilled

LAYOUT = "lucidrains StyleGAN2"
CONFIG = ".config.json"
NUM_FOR_MEAN = 10_000
_SIGNS = ("SE.net.0.weight", "GE.blocks.0.conv1.weight")
_COLOURS = 3


class _Found(NamedTuple):
    file: str | None
    """Its name in a folder."""
    state: StateDict


def recognises(source: Source) -> bool:
    """Whether a file has averaged networks of this code."""
    return _find(source) is not None


def convert(source: Source) -> Imported:
    """The networks `SE` and `GE`, and `D`; of a folder those of the last `model_….pt`.

    Raises:
        ValueError: if they are not those of this code.
    """
    found = _find(source)
    assert found is not None
    notes = ["images of this code are in [0, 1]: they become [-1, 1]"]
    lr_mult, note = _read_lr_mult(source)
    notes += note
    state = found.state
    generator = convert_generator(_part(state, "SE.", "GE."), state.spelling, lr_mult)
    notes.append(
        f"the file has no mean of w: truncation pulls towards that of {NUM_FOR_MEAN:,} latents, "
        "drawn here from a fixed seed"
    )
    if state.shapes["GE.blocks.0.to_rgb.conv.weight"][0] > _COLOURS:
        notes.append("images lose their alpha channel, and the discriminator sees opaque ones")
    judge = None
    if any(name.startswith("D.quantize_blocks.") for name in state.entries):
        notes.append("the discriminator has layers of vector quantisation and is left out")
    elif "D.to_logit.weight" in state.entries:
        judge = convert_discriminator(_part(state, "D."), state.spelling)
    place = f"SE and GE of {found.file}" if found.file else "SE and GE"
    return Imported(LAYOUT, generator, judge, tuple(notes), weights=place, is_averaged=True)


def convert_generator(
    tensors: Mapping[str, Tensor], spelling: Spelling, lr_mult: float
) -> Converted[LucidrainsArchitecture]:
    """The generator with these tensors, a fourth channel of its images dropped, and its mean w.

    Raises:
        ValueError: if they are not those of one, in `spelling`.
    """
    widths = _widths(tensors, "GE.blocks.{}.conv1.weight")
    first = _shape(tensors, spelling, "SE.net.0.weight", 2)
    image_channels = _shape(tensors, spelling, "GE.blocks.0.to_rgb.conv.weight", 4)[0]
    arch = LucidrainsArchitecture(
        z_dim=first[1],
        num_mapping_layers=sum(bool(re.fullmatch(r"SE\.net\.\d+\.weight", n)) for n in tensors),
        widths=widths,
        attention=_positions(tensors, r"GE\.attns\.(\d+)\..*"),
        has_const="GE.initial_block" in tensors,
        mapping_lr_mult=lr_mult,
        image_channels=min(image_channels, _COLOURS),
    )
    own = {
        name: x[:_COLOURS] if name.endswith("to_rgb.conv.weight") else x
        for name, x in tensors.items()
    }
    own["w_avg"] = mean_latent(arch, tensors, spelling)
    return Converted(arch, own, spelling)


def convert_discriminator(
    tensors: Mapping[str, Tensor], spelling: Spelling
) -> Converted[LucidrainsDiscriminatorArchitecture]:
    """The discriminator with these tensors; raises as `convert_generator` does."""
    image_channels = _shape(tensors, spelling, "D.blocks.0.conv_res.weight", 4)[1]
    arch = LucidrainsDiscriminatorArchitecture(
        widths=_widths(tensors, "D.blocks.{}.conv_res.weight"),
        attention=_positions(tensors, r"D\.attn_blocks\.(\d+)\..*"),
        has_alpha=image_channels > _COLOURS,
        image_channels=min(image_channels, _COLOURS),
    )
    return Converted(arch, tensors, spelling)


@torch.no_grad()
def mean_latent(
    arch: LucidrainsArchitecture, tensors: Mapping[str, Tensor], spelling: Spelling
) -> Tensor:
    """Mean of w [w_dim] over latents of a fixed seed, the same on every machine but for rounding:
    hence double precision.
    """
    with unfilled():
        mapping = StyleVectorizer(arch)
    own = {n.removeprefix("SE."): x for n, x in tensors.items() if n.startswith("SE.")}
    under = Spelling(lambda name: spelling.name(f"SE.{name}"))
    mapping = fill(mapping, own, under).double()
    z = torch.randn(NUM_FOR_MEAN, arch.z_dim, generator=torch_generator(0, "import/w_avg"))
    means = [mapping(part.double()).mean(0) for part in z.split(NUM_FOR_MEAN // 10)]
    return torch.stack(means).mean(0).float()


def _find(source: Source) -> _Found | None:
    if not source.is_folder:
        return _find_state(None, source.states)
    by_number = {int(m[1]): n for n in source.names if (m := re.fullmatch(r"model_(\d+)\.pt", n))}
    if not by_number:
        return None
    name = by_number[max(by_number)]
    return _find_state(name, find_states(source.read(name)))


def _find_state(file: str | None, states: Mapping[str, StateDict]) -> _Found | None:
    for state in states.values():
        if all(name in state.entries for name in _SIGNS):
            return _Found(file, state)
    return None


def _read_lr_mult(source: Source) -> tuple[float, list[str]]:
    """`lr_mlp` of the configuration, and what there is to say of it."""
    wanted = [CONFIG] if source.is_folder else [f"{source.path.stem}{CONFIG}", CONFIG]
    names = [name for name in wanted if name in source.names]
    if not names:
        return 0.1, [f"there is no {CONFIG} beside the file: lr_mlp is taken to be 0.1"]
    config = source.read(names[0])
    value = config.get("lr_mlp", 0.1) if isinstance(config, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"{names[0]}: lr_mlp must be a number above 0")
    return float(value), []


def _part(state: StateDict, *prefixes: str) -> dict[str, Tensor]:
    entries = {name: entry for name, entry in state.entries.items() if name.startswith(prefixes)}
    return replace(state, entries=entries).load()


def _shape(tensors: Mapping[str, Tensor], spelling: Spelling, name: str, dims: int) -> list[int]:
    if name not in tensors or tensors[name].dim() != dims:
        raise ValueError(f"{spelling.name(name)}: expected a weight of {dims} dimensions")
    return list(tensors[name].shape)


def _widths(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """First extents of the tensors `name`, from {} = 0 on."""
    found: list[int] = []
    while (key := name.format(len(found))) in tensors:
        found.append(len(tensors[key]))
    return tuple(found)


def _positions(tensors: Mapping[str, Tensor], pattern: str) -> tuple[int, ...]:
    return tuple(sorted({int(m[1]) for name in tensors if (m := re.fullmatch(pattern, name))}))
