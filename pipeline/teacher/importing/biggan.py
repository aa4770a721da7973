"""BigGAN-PyTorch's files (github.com/ajbrock/BigGAN-PyTorch) -> generator and discriminator.

A training leaves `G.pth`, `G_ema.pth`, `D.pth` and, with its options, `state_dict.pth`; a suffix
such as `_best0` tells copies apart. Neighbours: `biggan_tensors.py` knows the networks,
`biggan_deep.py` the other BigGANs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pipeline.teacher.architectures.biggan import BigGANArchitecture
from pipeline.teacher.importing.biggan_tensors import convert_discriminator, convert_generator
from pipeline.teacher.importing.imported import Imported, naming
from pipeline.teacher.importing.source import Source
from pipeline.teacher.importing.states import StateDict, find_states
from pipeline.teacher.spelling import Spelling

LAYOUT = "BigGAN-PyTorch training"
SN_EPS, BN_EPS = 1e-8, 1e-5
"""The repository's defaults."""
_FILE = re.compile(r"G(_ema)?((?:_(?!ema|optim).+)?\.(?:pth|pt|safetensors))")
"""Averaged or not, and what all files of a training end in."""
_GENERATOR = {"linear.weight", "blocks.0.0.conv1.weight", "output_layer.2.weight"}
_JUDGE = {"linear.weight", "blocks.0.0.conv1.weight", "embed.weight"}


def recognises(source: Source) -> bool:
    """Whether there is a generator of this layout."""
    try:
        return _find(source) is not None
    except ValueError:  # one of several, which `convert` asks for
        return True


def convert(source: Source) -> Imported:
    """The averaged generator where there is one, and the discriminator of the same suffix.

    Raises:
        ValueError: if a folder holds several; or for a network that is not supported.
    """
    found = _find(source)
    assert found is not None
    options, notes = found.read_options(source)
    if found.is_averaged is False:
        notes.append("there is no G_ema.pth: the weights are those of the training, not averaged")
    generator = convert_generator(
        found.state.load(), found.spelling, options.sn_eps, options.bn_eps
    )
    options.check(generator.arch)
    judge = found.find_judge(source)
    if judge is None:
        return Imported(LAYOUT, generator, None, tuple(notes), found.file, found.is_averaged)
    with naming(source.discriminator.path if source.discriminator else None):
        discriminator = convert_discriminator(
            judge.state.load(), judge.spelling, options.sn_eps, generator.arch.resolution
        )
    return Imported(LAYOUT, generator, discriminator, tuple(notes), found.file, found.is_averaged)


class _Options(NamedTuple):
    """What `state_dict.pth` says of a training."""

    config: Mapping[str, Any]

    @property
    def sn_eps(self) -> float:
        """Of spectral normalisation."""
        return self._number("SN_eps", SN_EPS)

    @property
    def bn_eps(self) -> float:
        """Of the blocks' normalisations."""
        return self._number("BN_eps", BN_EPS)

    def check(self, arch: BigGANArchitecture) -> None:
        """Raise ValueError for options of another network, or of one that is not supported."""
        sizes = {"resolution": arch.resolution, "n_classes": arch.num_classes}
        for name, size in sizes.items():
            if self.config.get(name, size) != size:
                raise ValueError(
                    f"state_dict.pth: {name} is {self.config[name]}, the weights have {size}; take "
                    "the files of one training"
                )
        for name in ("G_nl", "D_nl"):
            if self.config.get(name, "relu") not in ("relu", "inplace_relu", "ir"):
                raise ValueError(
                    f"state_dict.pth: {name} is {self.config[name]}; only ReLU is known"
                )

    def _number(self, name: str, default: float) -> float:
        value = self.config.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
            raise ValueError(f"state_dict.pth: {name} must be a number of at least 0")
        return float(value)


class _Found(NamedTuple):
    """A network, and the file that it is in."""

    state: StateDict
    file: str
    ending: str | None = None
    """Of the files of its training; None for a file with a name of somebody's own."""
    is_averaged: bool | None = None

    @property
    def spelling(self) -> Spelling:
        """Names with the file in front."""
        return Spelling(lambda name: f"{self.file}: {self.state.spelling.name(name)}")

    def read_options(self, source: Source) -> tuple[_Options, list[str]]:
        """Options of the training, beside the weights or in the same file, and notes about them."""
        content = source.content
        if self.ending is not None:
            names = (f"state_dict{self.ending}", "state_dict.pth")
            file = next((name for name in names if name in source.names), None)
            content = content if file is None else source.read(file)
        config = content.get("config") if isinstance(content, dict) else None
        if not isinstance(config, dict):
            taken = f"SN_eps is taken to be {SN_EPS:g} and BN_eps {BN_EPS:g}"
            return _Options({}), [f"no state_dict.pth beside it: {taken}"]
        notes = []
        if config.get("cross_replica"):
            notes.append(
                "trained with --cross_replica: gains multiply as in that training, where the "
                "original's evaluation adds them"
            )
        return _Options(config), notes

    def find_judge(self, source: Source) -> _Found | None:
        """The discriminator: of a file that the person names, of the same file, or beside it."""
        if source.discriminator is not None:
            states, file = source.discriminator.states, source.discriminator.path.name
        elif _pick(source.states, _JUDGE) is not None:
            states, file = source.states, source.path.name
        elif self.ending is not None and (file := f"D{self.ending}") in source.names:
            states = find_states(source.read(file))
        else:
            return None
        state = _pick(states, _JUDGE)
        if state is None:
            raise ValueError(f"{file}: no discriminator of a BigGAN with classes")
        return _Found(state, file)


def _find(source: Source) -> _Found | None:
    """The generator in `source`: of several files the averaged one without a suffix.

    Raises:
        ValueError: if there are several, none without a suffix.
    """
    name = _choose_file(source) if source.is_folder else source.path.name
    if name is None:
        return None
    match = _FILE.fullmatch(name)
    if match and (averaged := f"G_ema{match[2]}") in source.names:
        name, match = averaged, _FILE.fullmatch(averaged)
    is_own = not source.is_folder and name == source.path.name
    state = _pick(source.states if is_own else find_states(source.read(name)), _GENERATOR)
    if state is None:
        return None
    if match is None:
        return _Found(state, name, None, True if _is_averaged(state) else None)
    return _Found(state, name, match[2], bool(match[1]) or _is_averaged(state))


def _choose_file(source: Source) -> str | None:
    """A generator's file in a folder, if there is any."""
    found = {match[2]: match[0] for name in source.names if (match := _FILE.fullmatch(name))}
    plain = [name for ending, name in found.items() if ending.startswith(".")]
    if len(found) > 1 and not plain:
        raise ValueError(
            f"{source.path} holds several generators; name the file of one: "
            f"{', '.join(sorted(found.values()))}"
        )
    return next(iter(plain or found.values()), None)


def _pick(states: Mapping[str, StateDict], signs: set[str]) -> StateDict | None:
    """The state dict with the tensors `signs`; of several the averaged one."""
    fitting = [state for state in states.values() if signs <= state.entries.keys()]
    averaged = [state for state in fitting if _is_averaged(state)]
    return next(iter(averaged or fitting), None)


def _is_averaged(state: StateDict) -> bool:
    return "ema" in state.place.lower()
