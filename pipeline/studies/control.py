"""The student that a run's own is put beside: trained another way, all else being equal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.file import load_config
from pipeline.config.root import Config
from pipeline.studies.methods import find_methods
from shards.errors import UserError


def load_control(path: Path, changes: Sequence[str]) -> Config | None:
    """Config of the run that `eval.control` names for the config in `path`, None if it names none.

    Raises:
        UserError: if there is no such way to train.
    """
    base = load_config(path, changes)
    if base.eval.control is None:
        return None
    file = find_methods(path) / f"{base.eval.control}.yaml"
    if not file.exists():
        known = ", ".join(sorted(other.stem for other in file.parent.glob("*.yaml")))
        raise UserError(f"eval.control: no {file}; there are {known}")
    overrides = (
        f"name={base.control_name}",
        "eval.control=null",
        "eval.baselines=false",
        "eval.domain_samples=0",
        "eval.embedding_samples=0",
    )
    return load_config(path, [*changes, str(file), *overrides])
