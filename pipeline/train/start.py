"""What a training starts from, `train.init`: a file of weights, those that a library publishes, or
another run.

The driver writes it into the folder of the training, under the method's names, for all workers to
read. Neighbours: `student/pretrained.py` fits weights to a backbone, `stage.py` asks. Imports torch
where it is needed, since the digests of a spec are asked for without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.root import Config
from pipeline.config.student import StudentConfig
from pipeline.records.digests import file_digest
from pipeline.records.products import STUDENT_FILE, Student, is_intact
from pipeline.records.record import BEGUN_FILE, RECORD_FILE, Record, read_record
from shards.errors import UserError

if TYPE_CHECKING:
    from pipeline.student.pretrained import State
    from pipeline.train.method import Method

START_FILE = "start.safetensors"
_BACKBONE = "backbone."
_SOURCE = "sha256"
_LIBRARIES = ("torchvision:", "timm:")


def start_digest(config: Config) -> str | None:
    """SHA-256 of the file that `train.init` names, or of the student of the run; None without
    either: published weights are known by their name.

    Raises:
        UserError: if there is no such file or run.
    """
    init = config.train.init
    if init is None or init.startswith(_LIBRARIES):
        return None
    path = Path(init).expanduser()
    return file_digest(path) if path.is_file() else _run(config, init).outputs.digest


def check_start(config: Config) -> None:
    """Whether there is what `train.init` names; raises `UserError` otherwise."""
    init = config.train.init
    if init is not None and init.startswith(_LIBRARIES):
        _published_file(config.train.student, init)
    else:
        start_digest(config)


def write_start(config: Config, folder: Path) -> None:
    """Leave what the training starts from as `START_FILE` in `folder`; nothing without
    `train.init`.

    Raises:
        UserError: if it is not there or does not fit the student.
    """
    if config.train.init is None:
        return
    from safetensors.torch import save

    from shards.atomic import write_atomic

    state, source = _read(config, config.train.init)
    write_atomic(folder / START_FILE, save(state, {_SOURCE: file_digest(source)}))


def written_start_digest(config: Config, folder: Path) -> str | None:
    """SHA-256 of the file that `write_start` took it from, None where there was nothing to take."""
    if config.train.init is None:
        return None
    from safetensors import safe_open

    with safe_open(folder / START_FILE, "pt") as file:
        return str(file.metadata()[_SOURCE])


def load_start(method: Method, path: Path) -> None:
    """Put what `write_start` left at `path` into the networks of `method`.

    Raises:
        UserError: if those beside the backbone have other layers.
    """
    from safetensors.torch import load_file

    state, own = load_file(path), method.state_dict()
    wrong = [name for name in state if name not in own or own[name].shape != state[name].shape]
    wrong += [name for name in own if len(state) != _size(state) and name not in state]
    if wrong:
        raise UserError(
            f"train.init: {wrong[0]} of the other run does not fit this method's networks; start "
            f"from its backbone alone with train.init=runs/NAME/train/{STUDENT_FILE}"
        )
    method.load_state_dict({**own, **state})


def _size(state: State) -> int:
    """Tensors of the backbone."""
    return sum(name.startswith(_BACKBONE) for name in state)


def _read(config: Config, init: str) -> tuple[State, Path]:
    """State of a method's networks, and the file that it is from."""
    from pipeline.student.backbone import build_backbone
    from pipeline.student.pretrained import fit_weights, read_weights, timm_weights

    student, path = config.train.student, Path(init).expanduser()
    if init.startswith(_LIBRARIES):
        path = _published_file(student, init)
        is_timm = init.startswith("timm:")
        tag = init.partition(":")[2]
        found = timm_weights(student, tag, path) if is_timm else dict(read_weights(path))
    elif path.is_file():
        found = dict(read_weights(path))
    else:
        record = _run(config, init)
        path = config.paths.runs / init / "train" / STUDENT_FILE
        if record.config["method"]["name"] == config.train.method.name:
            return _networks(config, path), path
        found = dict(read_weights(path))
    backbone = build_backbone(student, config.train.seed)
    fitted = fit_weights(backbone, found, f"train.init={init}")
    return {_BACKBONE + key: value.contiguous() for key, value in fitted.items()}, path


def _published_file(student: StudentConfig, init: str) -> Path:
    """Where a library keeps the weights that it publishes."""
    from pipeline.student.pretrained import timm_file, torchvision_file

    library, _, name = init.partition(":")
    return (timm_file if library == "timm" else torchvision_file)(student, name)


def _networks(config: Config, student: Path) -> State:
    """All networks of a finished run of the same method, at the end of its training."""
    import torch

    from pipeline.engine.state import load_state
    from pipeline.student.backbone import build_backbone
    from pipeline.student.pretrained import fit_weights, read_weights
    from pipeline.train.loop import CHECKPOINT_FILE

    backbone = build_backbone(config.train.student, config.train.seed)
    fit_weights(backbone, read_weights(student), f"train.init={config.train.init}")
    path = student.with_name(CHECKPOINT_FILE)
    state = load_state(path, torch.device("cpu"))
    if state is None:
        raise UserError(
            f"{path}: is gone, and with it what that run has beside its backbone; start from that "
            f"alone with train.init={student}"
        )
    return {name: value.contiguous() for name, value in state["method"].items()}


def _run(config: Config, name: str) -> Record[Student]:
    """Record of the run's training."""
    folder = config.paths.runs / name / "train"
    if name == config.name:
        raise UserError(f"train.init={name}: is this run; take another name=… for the new training")
    if not (folder / RECORD_FILE).is_file():
        if (folder / BEGUN_FILE).is_file():
            raise UserError(
                f"train.init={name}: the training of that run has not ended; let it, or make what "
                f"it has its student with `python -m pipeline finish CONFIG name={name}`"
            )
        raise UserError(
            f"train.init={name}: no such file, and no run of that name has a student in "
            f"{config.paths.runs}; name a file, torchvision:ENUM, timm:TAG or a finished run"
        )
    record = read_record(folder, Student)
    assert record is not None
    if not is_intact(folder / STUDENT_FILE, record.outputs.digest):
        raise UserError(
            f"{folder / STUDENT_FILE}: missing or not the student that its record names; train "
            "that run again"
        )
    return record
