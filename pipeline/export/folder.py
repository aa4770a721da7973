"""A run's student -> `model.safetensors`, `config.json` and the card `README.md`.

Neighbours: the training wrote the student; `card.py` describes it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from pipeline.config.method import DiscriminatorConfig
from pipeline.config.root import Config
from pipeline.export.card import SIGNATURE, hub_config, read_licence, write_card
from pipeline.export.loading import WEIGHTS_FILE
from pipeline.records.ancestors import require_ancestors
from pipeline.records.products import is_intact, student_file
from pipeline.samples.seeding import torch_generator
from pipeline.student.backbone import Backbone, Normalise, load_backbone
from shards.atomic import atomic_path, remove_stale, write_atomic
from shards.errors import UserError

CARD_FILE = "README.md"
CONFIG_FILE = "config.json"
FILES = (WEIGHTS_FILE, CONFIG_FILE, CARD_FILE)
_NUM_IMAGES = 8
_TOLERANCE = 1e-5
"""Of the largest number in a representation. Equal weights need not give equal bits: kernels sum in
another order where memory is aligned otherwise, or where a tensor wants no gradient; some 1e-7.
"""


@dataclass(frozen=True)
class Export:
    """A folder that is complete."""

    folder: Path
    written: tuple[str, ...]
    """Files that were not already as they should be."""
    has_licence: bool


def write_export(config: Config, folder: Path, licence: str | None = None) -> Export:
    """Write the student of the run into `folder`; what is there already as it should be is left
    alone. A licence that an earlier card there names is kept, unless another is given.

    Raises:
        UserError: if the run has no student that was trained, or not under these settings; if
            `folder` has files and is no earlier export.
        RuntimeError: if what was written does not compute what the run's student does.
    """
    _check_place(folder, config.run_dir / "export")
    source = student_file(config)
    if isinstance(config.train.method, DiscriminatorConfig):
        raise UserError(
            "train.method.name=discriminator: its student is the GAN's own discriminator, which "
            "neither torchvision nor timm has; export a run that trains a student"
        )
    if not is_intact(source, require_ancestors(config).student.outputs.digest):
        raise UserError(
            f"{source}: missing or not the student that its record names; delete its folder and "
            "run `make train`"
        )
    fields: dict[str, Any] = read_licence(folder / CARD_FILE)
    if licence is not None:
        fields = {"license": licence}
    student = load_backbone(config.train.student, source).eval()
    weights, dim = save(load_file(source), {"format": "pt"}), student.representation_dim
    digest = hashlib.sha256(weights).hexdigest()
    contents = {
        CONFIG_FILE: json.dumps(hub_config(config, dim), indent=2) + "\n",
        CARD_FILE: write_card(config, dim, digest, fields),
    }
    remove_stale(folder)
    written = []
    if _write_weights(config, student, weights, folder / WEIGHTS_FILE):
        written.append(WEIGHTS_FILE)
    for name, content in contents.items():
        if not _is_there(folder / name, content.encode()):
            write_atomic(folder / name, content)
            written.append(name)
    return Export(folder, tuple(written), bool(fields))


def _check_place(folder: Path, usual: Path) -> None:
    """Raise `UserError` if files of somebody else could be replaced."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out={folder}: is a file; name a folder")
    if folder == usual or not folder.exists() or not any(folder.iterdir()):
        return
    card = folder / CARD_FILE
    if not (card.is_file() and SIGNATURE in card.read_text(encoding="utf-8", errors="replace")):
        raise UserError(
            f"--out={folder}: has files, and no {CARD_FILE} of an earlier export; name a new or "
            "empty folder"
        )


def _write_weights(config: Config, student: Backbone, content: bytes, path: Path) -> bool:
    """Write and check the weights; returns whether they were not there already. The file appears
    when it has been checked.
    """
    if _is_there(path, content):
        check_weights(config, student, path)
        return False
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
        check_weights(config, student, temporary)
    return True


@torch.no_grad()
def check_weights(config: Config, student: Backbone, path: Path) -> None:
    """Raise `RuntimeError` unless the weights in `path` are those of `student`, bit for bit, and
    give its representations.
    """
    train, side = config.train, config.view_size
    generator = torch_generator(0, "export/images")
    images = torch.rand(_NUM_IMAGES, 3, side, side, generator=generator)
    images = Normalise(train.pixel_mean, train.pixel_std)(images)
    exported = load_backbone(train.student, path).eval()
    wanted = student.state_dict()
    is_same = all(torch.equal(value, wanted[name]) for name, value in exported.state_dict().items())
    found, expected = exported(images), student(images)
    tolerance = _TOLERANCE * float(expected.abs().max())
    if not is_same or not torch.allclose(found, expected, rtol=0, atol=tolerance):
        raise RuntimeError(f"{path}: other representations than the run's student")


def _is_there(path: Path, content: bytes) -> bool:
    return path.exists() and path.read_bytes() == content
