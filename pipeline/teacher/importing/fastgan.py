"""FastGAN's files (odegeasslbc/FastGAN-pytorch) -> architectures and tensors.

`all_{n}.pth` holds `g`, `d`, `g_ema` and optimisers; `g_ema` is a list of the averaged parameters,
in the order in which `g` has them. `{n}.pth` holds `g`, averaged already, and `d`.
Neighbour: `projected_gan.py` reads the same chain of blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from pipeline.teacher.architectures.fastgan import (
    FastGANArchitecture,
    FastGANDiscriminatorArchitecture,
)
from pipeline.teacher.importing.imported import Imported
from pipeline.teacher.importing.infer import Converted
from pipeline.teacher.importing.source import Source
from pipeline.teacher.importing.spectral_norm import fold_spectral_norm, name_before_folding
from pipeline.teacher.importing.stored_tensors import Stored, WeightBudget
from pipeline.teacher.spelling import Spelling

LAYOUT = "FastGAN"
_SIGNS = ("init.init.0.weight_orig", "feat_8.1.weight_orig", "to_128.weight_orig")
_NOTE = "batch norms use their stored statistics, unlike the repository's own eval.py"
_BUFFERS = ("weight_u", "weight_v", "running_mean", "running_var", "num_batches_tracked")
_DECODERS = ("decoder_big.", "decoder_part.", "decoder_small.")


def recognises(source: Source) -> bool:
    """Whether the file has the state of a FastGAN generator."""
    return _find_place(source) is not None


def convert(source: Source) -> Imported:
    """The averaged generator, and `d` where the file has it.

    Raises:
        ValueError: if they are not those of this code.
    """
    place = _find_place(source)
    assert place is not None
    content = source.content
    state, judge = source.states[place], source.states.get("d")
    tensors = state.load()
    weights, is_averaged, notes = place, None, [_NOTE]
    if place == "g" and isinstance(listed := content.get("g_ema"), (list, tuple)):
        tensors = average_parameters(tensors, _load_list(listed), state.spelling)
        weights, is_averaged = "g_ema", True
        notes.append("g_ema holds no statistics of batch norms: those are of g")
    elif place == "g" and "opt_g" not in content:
        is_averaged = True
        notes.append("a file of this code without g_ema has the averaged weights in g")
    elif place == "g_ema":
        is_averaged = True
    return Imported(
        LAYOUT,
        convert_generator(tensors, state.spelling),
        None if judge is None else convert_discriminator(judge.load(), judge.spelling),
        tuple(notes),
        weights=weights,
        is_averaged=is_averaged,
    )


class FoldedNetwork:
    """Tensors of a file without spectral normalisation, and how the file has them."""

    def __init__(self, tensors: Mapping[str, Tensor], spelling: Spelling) -> None:
        unfold = name_before_folding(tensors)
        self.spelling = Spelling(lambda name: spelling.name(unfold(name)))
        self.tensors = fold_spectral_norm(tensors, spelling, transposed={"init.init.0"})

    def shape(self, name: str) -> list[int]:
        """Of the convolution's weight `name`.

        Raises:
            ValueError: if it is not there, or another tensor.
        """
        tensor = self.tensors.get(name)
        if tensor is None or tensor.dim() != 4:
            raise ValueError(f"{self.spelling.name(name)}: expected the weight of a convolution")
        return list(tensor.shape)

    def widths(self, *last_convs: str) -> dict[int, int]:
        """Channels of the maps of 4, 8, … px; the last convolution of a block is the first of
        `last_convs` that it has.
        """
        found = {4: self.shape("init.init.0.weight")[1] // 2}
        while names := self._matching(2 * max(found), last_convs):
            found[2 * max(found)] = self.shape(names[0])[0] // 2
        return found

    def _matching(self, side: int, convs: Sequence[str]) -> list[str]:
        names = (f"feat_{side}.{conv}.weight" for conv in convs)
        return [name for name in names if name in self.tensors]


def average_parameters(
    tensors: Mapping[str, Tensor], averaged: Sequence[Tensor], spelling: Spelling
) -> dict[str, Tensor]:
    """`tensors` of `g` with `averaged`, the list `g_ema`, in place of its parameters.

    Raises:
        ValueError: if the list is not that of these parameters.
    """
    names = [name for name in tensors if name.rpartition(".")[2] not in _BUFFERS]
    if len(names) != len(averaged):
        raise ValueError(f"g_ema: holds {len(averaged)} tensors for {len(names)} parameters of g")
    for name, tensor in zip(names, averaged, strict=True):
        if tensor.shape != tensors[name].shape:
            raise ValueError(
                f"g_ema: {list(tensor.shape)} in the place of {spelling.name(name)}, which is "
                f"{list(tensors[name].shape)}"
            )
    return {**tensors, **dict(zip(names, averaged, strict=True))}


def convert_generator(
    tensors: Mapping[str, Tensor], spelling: Spelling
) -> Converted[FastGANArchitecture]:
    """The generator with these tensors.

    Raises:
        ValueError: if they are not those of one, in `spelling`.
    """
    network = FoldedNetwork(tensors, spelling)
    arch = FastGANArchitecture(
        z_dim=network.shape("init.init.0.weight")[0],
        widths=tuple(network.widths("5", "1").values()),
        image_channels=network.shape("to_big.weight")[0],
    )
    own = {f"synthesis.{name}": tensor for name, tensor in network.tensors.items()}
    return Converted(arch, own, network.spelling.without("synthesis."))


def convert_discriminator(
    tensors: Mapping[str, Tensor], spelling: Spelling
) -> Converted[FastGANDiscriminatorArchitecture]:
    """The discriminator with these tensors, without its decoders; raises as `convert_generator`."""
    kept = {name: x for name, x in tensors.items() if not name.startswith(_DECODERS)}
    network = FoldedNetwork(kept, spelling)
    _, image_channels, kernel, _ = network.shape("down_from_big.0.weight")
    convs = ["down_from_big.0", *(f"down_{step}.main.0" for step in (4, 8, 16, 32, 64)), "rf_big.0"]
    resolution = 256 if kernel == 3 else 512
    if "down_from_big.2.weight" in network.tensors:
        resolution = 1024
        convs.insert(1, "down_from_big.2")
    widths = tuple(network.shape(f"{conv}.weight")[0] for conv in convs)
    arch = FastGANDiscriminatorArchitecture(resolution, widths, image_channels)
    return Converted(arch, network.tensors, network.spelling)


def _find_place(source: Source) -> str | None:
    """Keys that lead to the generator; averaged where there are several."""
    places = [p for p, state in source.states.items() if all(n in state.entries for n in _SIGNS)]
    return next((p for p in ("g_ema", "g", *places) if p in places), None)


def _load_list(content: Sequence[Any]) -> list[Tensor]:
    budget = WeightBudget()
    tensors = []
    for index, stored in enumerate(content):
        if not isinstance(stored, Stored):
            raise ValueError(f"g_ema[{index}]: not a tensor")
        tensors.append(budget.load(stored))
    return tensors
