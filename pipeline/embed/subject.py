"""A run's config, or an exported folder, -> the student that is put to use, and how images are
brought to it.

Neighbours: `export/folder.py` writes the folders; `images.py` packs images as the config here says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.config.file import load_config, make_config
from pipeline.config.method import DiscriminatorConfig
from pipeline.config.root import Config
from pipeline.embed.naming import refuse_useless
from pipeline.eval.discriminator import load_discriminator_backbone
from pipeline.export.folder import CONFIG_FILE
from pipeline.export.loading import WEIGHTS_FILE
from pipeline.records.digests import file_digest
from pipeline.records.environment import current_commit, installed_versions
from pipeline.records.products import RealImages, is_intact, require_student, student_file
from pipeline.records.record import read_record
from pipeline.student.backbone import load_backbone
from pipeline.student.extraction import Frozen
from pipeline.terminal.command import announce
from pipeline.terminal.progress import console
from shards.errors import UserError

_SECTIONS = ("name", "paths", "ray", "hardware", "real")
"""What may be changed of an exported folder; the rest it says itself."""


@dataclass(frozen=True)
class Subject:
    """A student, ready to see images."""

    network: Frozen
    config: Config
    """Of its run; of an exported folder one that says the same of images and student."""
    origin: dict[str, str]
    """Which run or folder it is of, and its SHA-256."""

    @property
    def side(self) -> int:
        """Of the images that it sees, in pixels."""
        return self.config.view_size

    @property
    def description(self) -> dict[str, Any]:
        """What made its embeddings, in JSON."""
        return {
            **self.origin,
            "view_size": self.side,
            "stored_size": self.config.real.resolution,
            "pixel_mean": list(self.network.pixel_mean),
            "pixel_std": list(self.network.pixel_std),
            "embeddings": "float32, not normalised",
            "commit": current_commit(),
            "versions": installed_versions(),
        }


def open_subject(place: Path, changes: Sequence[str]) -> Subject:
    """The student of a config, or of an exported folder, which the terminal's first line names.

    Raises:
        UserError: if the config is wrong or its run has no student, if the folder is no export, and
            for a change to what an exported folder says itself.
    """
    refuse_useless(changes)
    if place.is_dir():
        return _of_export(place, changes)
    config = load_config(place, changes)
    announce(place, changes, config.name)
    student, path = require_student(config), student_file(config)
    if not is_intact(path, student.outputs.digest):
        raise UserError(
            f"{path}: missing or not the student that its record names; delete its folder and "
            "run `make train`"
        )
    _check_size(config)
    backbone: nn.Module
    if isinstance(config.train.method, DiscriminatorConfig):
        backbone = load_discriminator_backbone(config, path)
    else:
        backbone = load_backbone(config.train.student, path)
    return _subject(config, backbone, {"run": config.name, "student": student.outputs.digest})


def _check_size(config: Config) -> None:
    """Refuse another size than that of the images that the student has learned from."""
    real = read_record(config.run_dir / "real", RealImages)
    stored = config.real.resolution if real is None else real.config["resolution"]
    if stored != config.real.resolution:
        raise UserError(
            f"real.resolution={config.real.resolution}: the run's images have {stored} px; leave "
            "it out"
        )


def _of_export(folder: Path, changes: Sequence[str]) -> Subject:
    refused = [change for change in changes if re.split("[.=]", change)[0] not in _SECTIONS]
    if refused:
        raise UserError(
            f"{refused[0]}: {folder} is an exported folder, of which {', '.join(_SECTIONS)} can be "
            "changed; leave it out, or name the run's config"
        )
    config = make_config(_read_export(folder), changes, folder / CONFIG_FILE)
    console.print(f"export    {folder}", soft_wrap=True)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise UserError(f"{weights}: is missing; write the folder again with `make export`")
    remedy = "get the folder again, or write it again with `make export`"
    backbone = load_backbone(config.train.student, weights, remedy)
    origin = {"export": folder.absolute().name, "student": file_digest(weights)}
    return _subject(config, backbone, origin)


def _read_export(folder: Path) -> dict[str, Any]:
    """A config's sections by what the folder says."""
    path = folder / CONFIG_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        described = found["pretrained_cfg"]
        side = described["input_size"][-1]
        name = re.sub(r"[^A-Za-z0-9._-]+|^[._-]+", "", folder.absolute().name) or "export"
        return {
            "name": name,
            "real": {"resolution": found.get("stored_size", side)},
            "train": {
                "student": dict(found["student"]),
                "pixel_mean": described["mean"],
                "pixel_std": described["std"],
                "view_size": side,
            },
        }
    except FileNotFoundError:
        raise UserError(
            f"{folder}: a folder without {CONFIG_FILE}; name a config, or a folder that "
            "`python -m pipeline export CONFIG` has written"
        ) from None
    except (ValueError, LookupError, TypeError):
        raise UserError(
            f"{path}: not as `python -m pipeline export CONFIG` writes it; export the run again"
        ) from None


def _subject(config: Config, backbone: nn.Module, origin: dict[str, str]) -> Subject:
    network = Frozen(backbone.eval(), config.train.pixel_mean, config.train.pixel_std)
    return Subject(network, config, origin)
