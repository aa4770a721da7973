"""Checkpoints of rosinality/stylegan2-pytorch (`train.py`, `convert_weight.py`) -> networks.

A dictionary with the state dicts `g_ema`, mostly `g` and `d`, and perhaps `latent_avg`, the mean of
w; what a training keeps beside them does not matter. Weights change in name and shape alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.samples.seeding import torch_generator
from pipeline.teacher.architectures.rosinality import (
    RosinalityArchitecture,
    RosinalityDiscriminatorArchitecture,
)
from pipeline.teacher.checkpoint import fill
from pipeline.teacher.importing.imported import Imported
from pipeline.teacher.importing.infer import Converted
from pipeline.teacher.importing.source import Source
from pipeline.teacher.importing.states import StateDict
from pipeline.teacher.networks.fir import resample_filter
from pipeline.teacher.networks.rosinality import RosinalityDiscriminator, RosinalityGenerator
from pipeline.teacher.networks.stylegan2 import GeneratorMapping
from pipeline.teacher.spelling import Spelling
from pipeline.teacher.unfilled import unfilled

GENERATOR_SIGNS = {"input.input", "conv1.conv.weight", "to_rgb1.conv.weight"}
DISCRIMINATOR_SIGNS = {"convs.0.0.weight", "convs.1.conv1.0.weight", "final_linear.1.weight"}
NUM_FOR_MEAN = 10_000
UP_GAIN = 4
"""Factor of the filters stored for upsampling by two."""

_GENERATOR_NAMES = {
    r"input\.input": "const",
    r"(.*)\.conv\.weight": r"\1.weight",
    r"(.*)\.conv\.modulation\.(.*)": r"\1.affine.\2",
    r"(.*)\.activate\.bias": r"\1.bias",
    r"(.*)\.noise\.weight": r"\1.noise_strength",
    r"(.*)\.(?:conv\.blur|upsample)\.kernel": r"\1.resample_filter",
    r"(to_rgb.*)\.bias": r"\1.bias",
}
_DISCRIMINATOR_NAMES = {
    r"(convs\.0|final_conv)\.0\.weight": r"\1.weight",
    r"(convs\.0|final_conv)\.1\.bias": r"\1.bias",
    r"(.*\.conv1)\.0\.weight": r"\1.weight",
    r"(.*\.conv1)\.1\.bias": r"\1.bias",
    r"(.*\.(?:conv2|skip))\.0\.kernel": r"\1.resample_filter",
    r"(.*\.(?:conv2|skip))\.1\.weight": r"\1.weight",
    r"(.*\.conv2)\.2\.bias": r"\1.bias",
    r"(final_linear\.\d\.(?:weight|bias))": r"\1",
}


def recognises(source: Source) -> bool:
    """Whether a state dict of the file has this code's generator."""
    return _find(source, GENERATOR_SIGNS, "g_ema", "g") is not None


def convert(source: Source) -> Imported:
    """The averaged generator, and the discriminator if it is there.

    Raises:
        ValueError: naming a tensor that does not fit.
    """
    state = _find(source, GENERATOR_SIGNS, "g_ema", "g")
    assert state is not None
    tensors, notes = _generator_tensors(state), []
    arch = _generator_arch(state)
    spelling = Spelling(
        lambda name: state.spelling.name(_generator_name_in_file(name)), _shape_in_file
    )
    tensors = _complete(tensors, RosinalityGenerator, arch)
    mean = _stored_mean(source, state)
    if mean is None:
        tensors["mapping.w_avg"] = _mean_of_w(arch, tensors, spelling)
        notes.append(
            f"the file has no latent_avg: truncation pulls towards the mean of {NUM_FOR_MEAN:,} "
            "mapped latents, drawn here from a fixed seed"
        )
    else:
        tensors["mapping.w_avg"] = mean
    judge = _find(source, DISCRIMINATOR_SIGNS, "d")
    is_averaged = True if _last(state.place) == "g_ema" else None
    if _last(state.place) == "g":
        is_averaged = False
        notes.append("the file has no g_ema: these weights are not averaged over the training")
    return Imported(
        "rosinality StyleGAN2",
        Converted(arch, tensors, spelling),
        None if judge is None else _convert_discriminator(judge),
        tuple(notes),
        weights=state.place,
        is_averaged=is_averaged,
    )


def _find(source: Source, signs: set[str], *wanted: str) -> StateDict | None:
    """The state dict with the tensors `signs`, of several the one under the first of `wanted`."""
    found = [state for state in source.states.values() if signs <= state.entries.keys()]
    ranks = {name: rank for rank, name in enumerate(wanted)}
    return min(found, key=lambda state: ranks.get(_last(state.place), len(ranks)), default=None)


def _last(place: str) -> str:
    return place.rpartition(".")[2]


def _generator_tensors(state: StateDict) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, value in state.load().items():
        target = _generator_name(name)
        before, after = _ones(target)
        shape = list(value.shape)
        end = len(shape) - after
        if end < before or {1} < {1, *shape[:before], *shape[end:]}:
            raise ValueError(f"{state.spelling.name(name)} is {shape}, of no StyleGAN2 layer")
        value = value.reshape(shape[before:end])
        tensors[target] = value / UP_GAIN if name.endswith(".kernel") else value
    return tensors


def _generator_name(name: str) -> str:
    """Ours of a tensor of the file."""
    if match := re.fullmatch(r"style\.(\d+)\.(weight|bias)", name):
        return f"mapping.fc{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"noises\.noise_(\d+)", name):
        index = int(match[1])
        return f"convs.{index - 1}.noise_const" if index else "conv1.noise_const"
    return _rename(name, _GENERATOR_NAMES)


def _generator_name_in_file(name: str) -> str:
    """The file's of one of our tensors."""
    if match := re.fullmatch(r"mapping\.fc(\d+)\.(weight|bias)", name):
        return f"style.{int(match[1]) + 1}.{match[2]}"
    if match := re.fullmatch(r"(?:convs\.(\d+)|conv1)\.noise_const", name):
        return f"noises.noise_{0 if match[1] is None else int(match[1]) + 1}"
    if name == "const":
        return "input.input"
    module, dot, kind = name.rpartition(".")
    is_rgb = module.startswith("to_rgb")
    names = {
        "weight": "conv.weight",
        "bias": "bias" if is_rgb else "activate.bias",
        "noise_strength": "noise.weight",
        "resample_filter": "upsample.kernel" if is_rgb else "conv.blur.kernel",
    }
    if module.endswith(".affine"):
        return f"{module.removesuffix('.affine')}.conv.modulation.{kind}"
    return f"{module}{dot}{names.get(kind, kind)}"


def _shape_in_file(name: str, shape: Sequence[int]) -> list[int]:
    """The file's of one of our tensors."""
    before, after = _ones(name)
    return [1] * before + [*shape] + [1] * after


def _ones(name: str) -> tuple[int, int]:
    """How many axes of size 1 the file has before and after those of our tensor `name`."""
    module, _, kind = name.rpartition(".")
    if kind == "noise_const":
        return 2, 0
    if module.startswith("to_rgb") and kind == "bias":
        return (0, 0) if module.endswith(".affine") else (1, 2)
    is_dense = module.startswith("mapping") or module.endswith(".affine")
    is_conv = kind == "weight" and not is_dense
    return (1 if is_conv or kind in ("const", "noise_strength") else 0), 0


def _rename(name: str, names: dict[str, str]) -> str:
    for pattern, target in names.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(target)
    return name


def _generator_arch(state: StateDict) -> RosinalityArchitecture:
    shapes = state.shapes
    num_ups = sum(bool(re.fullmatch(r"convs\.\d+\.conv\.weight", name)) for name in shapes) // 2
    last = ["conv1", *(f"convs.{2 * index + 1}" for index in range(num_ups))]
    return RosinalityArchitecture(
        w_dim=_size(state, "conv1.conv.modulation.weight", 1),
        num_mapping_layers=sum(bool(re.fullmatch(r"style\.\d+\.weight", name)) for name in shapes),
        widths=tuple(_size(state, f"{name}.conv.weight", 1) for name in last),
        image_channels=_size(state, "to_rgb1.conv.weight", 1),
    )


def _convert_discriminator(state: StateDict) -> Converted[RosinalityDiscriminatorArchitecture]:
    num_blocks = sum(
        bool(re.fullmatch(r"convs\.\d+\.conv1\.0\.weight", name)) for name in state.entries
    )
    widths = [
        _size(state, f"convs.{index}.conv2.1.weight", 0) for index in range(1, num_blocks + 1)
    ]
    arch = RosinalityDiscriminatorArchitecture(
        widths=tuple([_size(state, "convs.0.0.weight", 0), *widths][::-1]),
        image_channels=_size(state, "convs.0.0.weight", 1),
    )
    names = {_rename(name, _DISCRIMINATOR_NAMES): name for name in state.entries}
    loaded = state.load()
    tensors = {target: loaded[name] for target, name in names.items()}
    spelling = Spelling(lambda name: state.spelling.name(names.get(name, name)))
    return Converted(arch, _complete(tensors, RosinalityDiscriminator, arch), spelling)


def _size(state: StateDict, name: str, axis: int) -> int:
    shape = state.entries[name].shape if name in state.entries else ()
    if axis >= len(shape):
        raise ValueError(f"{state.spelling.name(name)}: missing, or without its {axis + 1} axes")
    return shape[axis]


def _complete(
    tensors: dict[str, Tensor],
    network: type[RosinalityGenerator | RosinalityDiscriminator],
    arch: RosinalityArchitecture | RosinalityDiscriminatorArchitecture,
) -> dict[str, Tensor]:
    """With filters of layers that do not resample, and zeros for noise maps that are not stored."""
    with unfilled():
        expected = network(arch).state_dict()  # type: ignore[arg-type]
    for name, value in expected.items():
        if name in tensors:
            continue
        if name.endswith(".resample_filter"):
            tensors[name] = resample_filter()
        elif name.endswith(".noise_const"):
            tensors[name] = torch.zeros(value.shape)
    return tensors


def _stored_mean(source: Source, state: StateDict) -> Tensor | None:
    """`latent_avg` beside the state dict."""
    parent = source.states.get(state.place.rpartition(".")[0])
    if parent is None or "latent_avg" not in parent.entries:
        return None
    return parent.entries["latent_avg"].to_tensor().reshape(-1)


@torch.no_grad()
def _mean_of_w(
    arch: RosinalityArchitecture, tensors: dict[str, Tensor], spelling: Spelling
) -> Tensor:
    """[w_dim], of latents that are always the same."""
    with unfilled():
        mapping = GeneratorMapping(arch)
    start = "mapping."
    own = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
    own["w_avg"] = torch.zeros(arch.w_dim)
    fill(mapping, own, Spelling(lambda name: spelling.name(start + name)))
    z = torch.randn(NUM_FOR_MEAN, arch.z_dim, generator=torch_generator(0, "import/w_avg"))
    ws: Tensor = mapping(z)
    return ws[:, 0].mean(0)
