"""Files of pytorch-pretrained-BigGAN (github.com/huggingface/pytorch-pretrained-BigGAN).

`pytorch_model.bin` has the weights, `config.json` which layers double the side; a prefix such as
`biggan-deep-128-` may be in front of both names. Neighbour: `biggan.py` reads the other BigGANs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pipeline.teacher.architectures.biggan_deep import BigGANDeepArchitecture, BottleneckBlock
from pipeline.teacher.importing.imported import Imported
from pipeline.teacher.importing.infer import Converted
from pipeline.teacher.importing.source import Source
from pipeline.teacher.importing.spectral_norm import fold_spectral_norm, name_before_folding
from pipeline.teacher.importing.states import StateDict, find_states
from pipeline.teacher.spelling import Spelling

LAYOUT = "BigGAN-deep of pytorch-pretrained-BigGAN"
IMAGE_CHANNELS = 3
_TO_RGB = "generator.conv_to_rgb."
_ATTENTION = re.compile(r"generator\.layers\.(\d+)\.gamma")
_BLOCK = re.compile(r"generator\.layers\.(\d+)\.conv_0\.weight")


_SIGNS = {"embeddings.weight", "generator.gen_z.weight_orig", "generator.bn.running_means"}


def recognises(source: Source) -> bool:
    """Whether there is a generator of this layout."""
    return _find(source) is not None


def convert(source: Source) -> Imported:
    """The generator, which is an averaged one: no other was published.

    Raises:
        ValueError: without a `config.json`; or for a network that is not supported.
    """
    found = _find(source)
    assert found is not None
    state, file = found
    names = [f"{file.removesuffix('pytorch_model.bin')}config.json", "config.json"]
    name = next((name for name in names if name in source.names), None)
    config = None if name is None else source.read(name)
    if not isinstance(config, Mapping):
        raise ValueError(
            f"no config.json beside {file} says which layers double the side; put the one there "
            "that came with it"
        )
    generator = convert_generator(state.load(), state.spelling, config)
    return Imported(LAYOUT, generator, None, (), file, is_averaged=True)


def _find(source: Source) -> tuple[StateDict, str] | None:
    """The weights, and the file that they are in."""
    if not source.is_folder:
        files = {source.path.name: source.states}
    else:
        names = source.matching("*pytorch_model.bin", "*.safetensors")
        files = {name: find_states(source.read(name)) for name in names}
    for file, states in files.items():
        for state in states.values():
            if state.entries.keys() >= _SIGNS:
                return state, file
    return None


def convert_generator(
    tensors: Mapping[str, Tensor], spelling: Spelling, config: Mapping[str, Any]
) -> Converted[BigGANDeepArchitecture]:
    """The generator with these tensors; of the `config` beside them only what no tensor tells is
    used: which layers double the side, and the epsilon of normalisation.

    Of the last convolution's channels only the first three are kept: the rest makes no image.

    Raises:
        ValueError: if they are no such generator, or `config` is of another.
    """
    unfold = name_before_folding(tensors)
    names = Spelling(lambda name: spelling.name(unfold(name)))
    found = fold_spectral_norm(tensors, spelling)
    indices = sorted(int(match[1]) for name in found if (match := _BLOCK.fullmatch(name)))
    flags = _read_flags(config, len(indices))
    means = _shape(found, names, "generator.bn.running_means", 2)
    embedding_dim, num_classes = _shape(found, names, "embeddings.weight", 2)
    arch = BigGANDeepArchitecture(
        z_dim=_shape(found, names, "generator.gen_z.weight", 2)[1] - embedding_dim,
        num_classes=num_classes,
        embedding_dim=embedding_dim,
        blocks=tuple(
            BottleneckBlock(
                in_channels=_shape(found, names, f"generator.layers.{index}.conv_0.weight", 4)[1],
                out_channels=_shape(found, names, f"generator.layers.{index}.conv_3.weight", 4)[0],
                middle_channels=_shape(found, names, f"generator.layers.{index}.conv_0.weight", 4)[
                    0
                ],
                is_doubling=is_doubling,
            )
            for index, is_doubling in zip(indices, flags, strict=True)
        ),
        attention=tuple(
            sorted(int(match[1]) for name in found if (match := _ATTENTION.fullmatch(name)))
        ),
        num_statistics=means[0],
        bn_eps=config.get("eps", 1e-4),
    )
    kept = {
        name: tensor[:IMAGE_CHANNELS].contiguous() if name.startswith(_TO_RGB) else tensor
        for name, tensor in found.items()
    }
    for name in kept:
        if _ATTENTION.fullmatch(name):
            kept[name] = kept[name].reshape(())
    return Converted(arch, kept, names)


def _read_flags(config: Mapping[str, Any], num_blocks: int) -> list[bool]:
    layers = config.get("layers")
    if not isinstance(layers, list) or not all(
        isinstance(layer, list) and layer and isinstance(layer[0], bool) for layer in layers
    ):
        raise ValueError("config.json: expected layers, a list of [doubles the side, in, out]")
    if len(layers) != num_blocks:
        raise ValueError(
            f"config.json: it has {len(layers)} layers, the weights {num_blocks}; take the one "
            "that came with them"
        )
    return [layer[0] for layer in layers]


def _shape(
    tensors: Mapping[str, Tensor], spelling: Spelling, name: str, num_dims: int
) -> list[int]:
    """Of a tensor that has to be there, with so many dimensions."""
    tensor = tensors.get(name)
    if tensor is None or tensor.dim() != num_dims or not tensor.numel():
        raise ValueError(f"{spelling.name(name)}: expected a tensor of {num_dims} dimensions")
    return list(tensor.shape)
