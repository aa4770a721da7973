"""A TensorFlow-era pickle -> architecture and tensors.

The layout is a tuple (G, D, Gs) of `dnnlib.tflib.network.Network`; each has `static_kwargs`,
`variables` [(name, array)] and `components`, networks of their own. Weights are stored input first
(dense [in, out], convolutions [k, k, in, out]), transposed convolutions flipped, and the bias of a
style without its constant 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.teacher.architectures.stylegan2 import (
    StyleGAN2Architecture,
    StyleGAN2DiscriminatorArchitecture,
)
from pipeline.teacher.importing.imported import Imported
from pipeline.teacher.importing.infer import Converted, infer_discriminator, infer_generator
from pipeline.teacher.importing.source import Source
from pipeline.teacher.importing.stand_ins import TensorFlowNetwork
from pipeline.teacher.importing.stored_arrays import StoredArray
from pipeline.teacher.importing.stored_tensors import WeightBudget
from pipeline.teacher.spelling import Spelling

MIN_VERSION = 4  # of the first StyleGAN2 release
MAX_VARIABLES = 10_000
MAX_DEPTH = 8

_FUNCTIONAL = {"resample_kernel": [1, 3, 3, 1], "nonlinearity": "lrelu", "mbstd_num_features": 1}
_FUNCTIONAL |= {"mapping_nonlinearity": "lrelu", "normalize_latents": True}
_SHAPES = {
    *("latent_size", "label_size", "dlatent_size", "resolution", "num_channels", "fmap_base"),
    *("fmap_max", "fmap_min", "fmap_decay", "mapping_layers", "mapping_fmaps", "label_fmaps"),
    *("architecture", "use_noise"),
}  # what names and shapes of the variables say
_SETTINGS = {"num_fp16_res", "conv_clamp", "mapping_lrmul", "mbstd_group_size"}
_TRAINING = {
    *("truncation_psi", "truncation_cutoff", "truncation_psi_val", "truncation_cutoff_val"),
    *("style_mixing_prob", "structure", "conditioning", "fused_modconv", "randomize_noise"),
    *("w_avg_beta", "dlatent_avg_beta", "freeze_layers", "dtype", "func_name", "impl"),
    *("is_training", "is_validation", "is_template_graph", "return_dlatents"),
}  # what does not change the networks


class _Layout(NamedTuple):
    """How a tensor is stored."""

    read: Callable[[Tensor], Tensor]
    """From the file's to ours."""
    shape: Callable[[Sequence[int]], list[int]]
    """From ours to the file's."""


_SAME = _Layout(lambda x: x, list)
_DENSE = _Layout(lambda x: x.T, lambda s: [s[1], s[0]])
_CONV = _Layout(lambda x: x.permute(3, 2, 0, 1), lambda s: [s[2], s[3], s[1], s[0]])
_FLIPPED = _Layout(lambda x: _CONV.read(x.flip(0, 1)), _CONV.shape)
_WITHOUT_ONE = _Layout(lambda x: x + 1, list)
_CONSTANT = _Layout(lambda x: x[0], lambda s: [1, *s])
_NOISE = _Layout(lambda x: x[0, 0], lambda s: [1, 1, *s])

_Rule = tuple[str, str, _Layout]


def _layer_rules(source: str, target: str, weight: _Layout) -> list[_Rule]:
    return [
        (rf"{source}/weight", rf"{target}.weight", weight),
        (rf"{source}/bias", rf"{target}.bias", _SAME),
        (rf"{source}/mod_weight", rf"{target}.affine.weight", _DENSE),
        (rf"{source}/mod_bias", rf"{target}.affine.bias", _WITHOUT_ONE),
        (rf"{source}/noise_strength", rf"{target}.noise_strength", _SAME),
    ]


_R = r"(\d+)x\d+"
_GENERATOR_RULES: list[_Rule] = [
    ("dlatent_avg", "mapping.w_avg", _SAME),
    *_layer_rules("mapping/LabelEmbed", "mapping.embed", _DENSE),
    *_layer_rules(r"mapping/Dense(\d+)", r"mapping.fc\1", _DENSE),
    ("synthesis/4x4/Const/const", "synthesis.b4.const", _CONSTANT),
    *_layer_rules("synthesis/4x4/Conv", "synthesis.b4.conv1", _CONV),
    *_layer_rules(f"synthesis/{_R}/Conv0_up", r"synthesis.b\1.conv0", _FLIPPED),
    *_layer_rules(f"synthesis/{_R}/Conv1", r"synthesis.b\1.conv1", _CONV),
    *_layer_rules(f"synthesis/{_R}/ToRGB", r"synthesis.b\1.torgb", _CONV),
    *_layer_rules(f"synthesis/{_R}/Skip", r"synthesis.b\1.skip", _FLIPPED),
]
_DISCRIMINATOR_RULES: list[_Rule] = [
    *_layer_rules("LabelEmbed", "mapping.embed", _DENSE),
    *_layer_rules(r"Mapping(\d+)", r"mapping.fc\1", _DENSE),
    *_layer_rules(f"{_R}/FromRGB", r"b\1.fromrgb", _CONV),
    *_layer_rules(f"{_R}/Conv0", r"b\1.conv0", _CONV),
    *_layer_rules(f"{_R}/Conv1_down", r"b\1.conv1", _CONV),
    *_layer_rules(f"{_R}/Skip", r"b\1.skip", _CONV),
    *_layer_rules("4x4/Conv", "b4.conv", _CONV),
    *_layer_rules("4x4/Dense0", "b4.fc", _DENSE),
    *_layer_rules("Output", "b4.out", _DENSE),
]


def recognises(source: Source) -> bool:
    """Whether the file has the layout of these pickles."""
    content = source.content
    return (
        isinstance(content, (tuple, list))
        and len(content) == 3
        and all(isinstance(network, TensorFlowNetwork) for network in content)
    )


def convert(source: Source) -> Imported:
    """The networks `Gs` and `D`; raises as `convert_generator`."""
    _, judge, averaged = source.content
    return Imported(
        "StyleGAN2 TensorFlow pickle",
        convert_generator(averaged),
        convert_discriminator(judge),
        weights="Gs",
        is_averaged=True,
    )


def convert_generator(network: TensorFlowNetwork) -> Converted[StyleGAN2Architecture]:
    """The network `Gs`.

    Raises:
        ValueError: if it is no StyleGAN2 generator, or has a part that is not supported.
    """
    settings = _settings(network)
    variables = _variables(network)
    resolution = _top_resolution(variables)
    lods = _find_lods(variables, "ToRGB", "synthesis/", resolution)
    tensors, spelling = _convert(variables, _GENERATOR_RULES, lods)
    if lods:
        keep = f"synthesis.b{resolution}.torgb."
        tensors = {n: t for n, t in tensors.items() if ".torgb." not in n or n.startswith(keep)}
    arch = infer_generator(
        tensors,
        spelling,
        conv_clamp=settings.get("conv_clamp"),
        mapping_lr_mult=settings.get("mapping_lrmul", 0.01),
        num_half_blocks=_num_half_blocks(settings, resolution),
    )
    return Converted(arch, tensors, spelling)


def convert_discriminator(
    network: TensorFlowNetwork,
) -> Converted[StyleGAN2DiscriminatorArchitecture]:
    """The network `D`; raises as `convert_generator` does."""
    settings = _settings(network)
    variables = _variables(network)
    resolution = _top_resolution(variables)
    lods = _find_lods(variables, "FromRGB", "", resolution)
    tensors, spelling = _convert(variables, _DISCRIMINATOR_RULES, lods)
    if lods:
        keep = f"b{resolution}.fromrgb."
        tensors = {n: t for n, t in tensors.items() if ".fromrgb." not in n or n.startswith(keep)}
    arch = infer_discriminator(
        tensors,
        spelling,
        conv_clamp=settings.get("conv_clamp"),
        mbstd_group_size=settings.get("mbstd_group_size"),
        num_half_blocks=_num_half_blocks(settings, resolution),
        mapping_lr_mult=settings.get("mapping_lrmul", 0.1),
    )
    return Converted(arch, tensors, spelling)


def _settings(network: TensorFlowNetwork) -> dict[str, Any]:
    """The keyword arguments that matter beyond shapes; refuses what would compute otherwise."""
    version = network.state.get("version", 0)
    if not isinstance(version, int) or version < MIN_VERSION:
        raise ValueError(f"network version {version}: older than StyleGAN2 (version {MIN_VERSION})")
    kwargs = network.state.get("static_kwargs") or {}
    if not isinstance(kwargs, dict):
        raise ValueError("static_kwargs: not a dictionary")
    unknown = kwargs.keys() - _FUNCTIONAL.keys() - _SHAPES - _SETTINGS - _TRAINING
    if unknown:
        raise ValueError(f"static_kwargs: unknown {', '.join(sorted(map(str, unknown)))}")
    for name, supported in _FUNCTIONAL.items():
        value = kwargs.get(name, supported)
        value = list(value) if isinstance(value, tuple) else value
        if value != supported:
            raise ValueError(f"static_kwargs: {name}={value!r}; only {supported!r} is supported")
    return {name: kwargs[name] for name in _SETTINGS & kwargs.keys()}


def _variables(network: TensorFlowNetwork) -> dict[str, Tensor]:
    """Variables of the network and of its components, whose names become prefixes."""
    found: dict[str, Tensor] = {}
    budget = WeightBudget()

    def walk(state: dict[str, Any], prefix: str, depth: int) -> None:
        variables = state.get("variables") or []
        components = state.get("components") or {}
        if depth > MAX_DEPTH or len(found) > MAX_VARIABLES or not isinstance(components, dict):
            raise ValueError("components: nested too deeply, or not a dictionary")
        for entry in variables:
            if not (isinstance(entry, (tuple, list)) and len(entry) == 2):
                raise ValueError(f"{prefix}variables: not a list of (name, array)")
            name, value = entry
            if isinstance(value, StoredArray):
                found[f"{prefix}{name}"] = budget.load(value)
            elif isinstance(value, (int, float)):
                found[f"{prefix}{name}"] = torch.tensor(float(value))  # a numpy scalar
            else:
                raise ValueError(f"{prefix}{name}: not an array")
        for name, component in components.items():
            if not isinstance(component, TensorFlowNetwork):
                raise ValueError(f"{prefix}{name}: not a network")
            walk(component.state, f"{prefix}{name}/", depth + 1)

    walk(network.state, "", 0)
    return found


def _convert(
    variables: dict[str, Tensor], rules: list[_Rule], lods: Mapping[str, str]
) -> tuple[dict[str, Tensor], Spelling]:
    """Apply the first rule that fits each name; what none fits is not part of the network. `lods`
    are variables under the names that the rules know.
    """
    tensors: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    layouts: dict[str, _Layout] = {}
    for name, value in variables.items():
        target, layout = _find_target(lods.get(name, name), rules)
        if target is None:
            continue
        try:
            tensors[target] = layout.read(value).contiguous().float()
        except (RuntimeError, IndexError):
            raise ValueError(f"{name}: {list(value.shape)} is no shape of {target}") from None
        names[target], layouts[target] = name, layout
    usual = {name: lod for lod, name in lods.items()}

    def name_in_file(name: str) -> str:
        source = names.get(name) or _find_source(name, rules)
        return usual.get(source, source)

    return tensors, Spelling(
        name_in_file, lambda name, shape: layouts.get(name, _SAME).shape(shape)
    )


def _find_target(name: str, rules: list[_Rule]) -> tuple[str | None, _Layout]:
    """Our name of a variable, if it is part of the network."""
    if match := re.fullmatch(r"synthesis/noise(\d+)", name):
        return _noise_name(int(match[1])), _NOISE
    for pattern, target, layout in rules:
        if match := re.fullmatch(pattern, name):
            return match.expand(target), layout
    return None, _SAME


def _find_source(name: str, rules: list[_Rule]) -> str:
    """The variable that would be our tensor `name`."""
    for pattern, target, _ in rules:
        if match := re.fullmatch(re.escape(target).replace(r"\\1", r"(\d+)"), name):
            source = pattern.replace(_R, "{0}x{0}").replace(r"(\d+)", "{0}")
            return source.format(*match.groups())
    return name


def _find_lods(
    variables: dict[str, Tensor], layer: str, prefix: str, resolution: int
) -> dict[str, str]:
    """`ToRGB_lod{k}/…` with the names of their resolutions; networks that have any are `orig`."""
    renamed = {}
    for name in variables:
        if match := re.fullmatch(rf"(?:{prefix})?{layer}_lod(\d+)/(.*)", name):
            side = resolution >> int(match[1])
            renamed[name] = f"{prefix}{side}x{side}/{layer}/{match[2]}"
    return renamed


def _top_resolution(variables: dict[str, Tensor]) -> int:
    sides = [int(m[1]) for name in variables if (m := re.match(r"(?:synthesis/)?(\d+)x\1/", name))]
    if not sides or max(sides) < 8:
        raise ValueError("no StyleGAN2 network: it has no variables such as 8x8/Conv1")
    return max(sides)


def _noise_name(index: int) -> str:
    """Noise 0 is that of 4 px; then two for each resolution."""
    if index == 0:
        return "synthesis.b4.conv1.noise_const"
    side = 2 ** ((index + 5) // 2)
    return f"synthesis.b{side}.conv{1 - index % 2}.noise_const"


def _num_half_blocks(settings: dict[str, Any], resolution: int) -> int:
    """`num_fp16_res`, without the 4-px block that is never among them."""
    return min(int(settings.get("num_fp16_res") or 0), int(math.log2(resolution)) - 2)
