"""Plain state dicts in files with a small JSON: written, imported, and refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline.teacher.description import TeacherInfo
from pipeline.teacher.importing.checkpoint import import_teacher
from pipeline.teacher.networks.discriminator import Discriminator
from shards.errors import UserError
from tests.support.tiny_shards import DISCRIMINATOR, random_generator

State = dict[str, Any]
DCGAN = {"family": "dcgan"}
STYLEGAN2 = {"family": "stylegan2"}


def save_state(content: State, path: Path) -> Path:
    """As the suffix says."""
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in content.items()}, path)
    else:
        torch.save(content, path)
    return path


def write_json(folder: Path, content: Any, name: str = "architecture.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def import_state(folder: Path, file: Path, said: Any, **more: Any) -> TeacherInfo:
    architecture = write_json(folder, said)
    return import_teacher(file, folder / "teacher", architecture=architecture, **more)


def assert_refused(folder: Path, file: Path, said: Any, *mentions: str, **more: Any) -> None:
    """One line that names the file, and nothing written."""
    with pytest.raises(UserError) as raised:
        import_state(folder, file, said, **more)
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 1000
    for mention in (str(file), *mentions):
        assert mention in message, message
    assert not (folder / "teacher").exists()


def without(*endings: str) -> Callable[[State], State]:
    return lambda state: {
        name: value for name, value in state.items() if not name.endswith(endings)
    }


def with_tensor(name: str, value: Tensor) -> Callable[[State], State]:
    return lambda state: state | {name: value}


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def random_discriminator() -> Discriminator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return Discriminator(DISCRIMINATOR).eval().requires_grad_(False)


GENERATOR_STATE: State = dict(random_generator().state_dict())
DISCRIMINATOR_STATE: State = dict(random_discriminator().state_dict())
BOTH_STATES = prefixed("G_ema.", GENERATOR_STATE) | prefixed("D.", DISCRIMINATOR_STATE)
