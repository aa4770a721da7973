"""Weights for a backbone to start from: of a file, or as torchvision and timm publish them.

Nothing is downloaded: what a library would fetch must lie where it keeps its downloads. Neighbours:
`libraries.py` makes the networks, `train/start.py` says which weights.
"""

from __future__ import annotations

import difflib
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torchvision import models

from pipeline.config.student import StudentConfig
from pipeline.student.backbone import Backbone, is_of_classifier
from shards.errors import UserError

_FIELD = "train.init"
_SHOWN = 5
_OF_TORCH = (b"PK", b"\x80\x02")
"""First bytes of torch's files."""
_COUNTER = "num_batches_tracked"
"""End of a name that tells nothing: older files lack it."""
_HUB_NAMES = ("model.safetensors", "pytorch_model.bin")
State = dict[str, Tensor]


def read_weights(path: Path) -> Mapping[str, Any]:
    """What a file of safetensors or of torch's holds; nothing in it is executed.

    Raises:
        UserError: for another file, or one with more than tensors and plain values.
    """
    try:
        with path.open("rb") as file:
            is_of_torch = file.read(2) in _OF_TORCH
        if not is_of_torch:
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        reason = f" but {code[1]}" if code else ""
        raise UserError(
            f"{_FIELD}: {path}: not tensors alone{reason}; save its state dict as safetensors"
        ) from None
    except Exception as error:  # a file may provoke whatever its reader raises
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{_FIELD}: {path}: no safetensors, and no whole state dict of torch's ({reason}); "
            "copy or save it again"
        ) from None
    if not isinstance(found, Mapping):
        raise UserError(f"{_FIELD}: {path}: holds a {type(found).__name__} and no state dict")
    return found


def torchvision_file(student: StudentConfig, name: str) -> Path:
    """Where torchvision keeps weights such as `ResNet18_Weights.IMAGENET1K_V1`.

    Raises:
        UserError: if the student has no such weights, or they are not there, with the command that
            downloads them.
    """
    if ":" in student.architecture:
        raise UserError(
            f"{_FIELD}=torchvision:{name}: {student.architecture} is not torchvision's; "
            "take timm:TAG"
        )
    published = models.get_model_weights(student.architecture)
    known = {f"{published.__name__}.{each.name}": each for each in published}
    if name not in known:
        raise _unknown(f"torchvision:{name}", student, list(known))
    path = _torch_downloads() / Path(known[name].url).name
    if not path.is_file():
        command = f"from torchvision.models import *; {name}.get_state_dict()"
        raise _not_there(f"torchvision:{name}", path, f'python -c "{command}"')
    return path


def timm_file(student: StudentConfig, tag: str) -> Path:
    """Where timm keeps weights such as `a1_in1k` of its network; raises as `torchvision_file`."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    name = _timm_name(student, tag)
    known = [each.partition(".")[2] for each in timm.list_pretrained(f"{name}.*")]
    if tag not in known:
        raise _unknown(f"timm:{tag}", student, known)
    published: Any = timm.get_pretrained_cfg(f"{name}.{tag}")
    if not published.hf_hub_id:
        path = _torch_downloads() / Path(published.url).name
        if not path.is_file():
            raise _not_there(f"timm:{tag}", path, f"wget -P {path.parent} {published.url}")
        return path
    for file in _HUB_NAMES:
        found = try_to_load_from_cache(published.hf_hub_id, file)
        if isinstance(found, str):
            return Path(found)
    place = f"{published.hf_hub_id} in the cache of the model hub"
    raise _not_there(f"timm:{tag}", place, f"hf download {published.hf_hub_id}")


def timm_weights(student: StudentConfig, tag: str, path: Path) -> State:
    """Weights of timm's in `path` as timm fits them to the student's options, such as another
    `img_size`.
    """
    import timm

    network = timm.create_model(
        f"{_timm_name(student, tag)}.{tag}",
        pretrained=True,
        num_classes=0,
        pretrained_cfg_overlay={"file": str(path)},
        **student.options,
    )
    state: State = network.state_dict()
    return state


def fit_weights(backbone: Backbone, found: Mapping[str, Any], origin: str) -> State:
    """The state of `backbone` that a file holds, maybe within another dictionary and behind a
    prefix. A classifier is left out; other networks, behind other prefixes, are too.

    Args:
        found: of `read_weights`.
        origin: for messages.

    Raises:
        UserError: naming what is missing, left over or of another shape, or if there are several.
    """
    wanted = backbone.state_dict()
    state = _choose(wanted, found, origin)
    missing = [name for name in wanted if name not in state and not name.endswith(_COUNTER)]
    extra = [
        name
        for name in state
        if not (name in wanted or name.endswith(_COUNTER) or is_of_classifier(backbone, name))
    ]
    shapes = [
        f"{name} {list(state[name].shape)} for {list(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    fitted = {name: state.get(name, value).to(value.dtype) for name, value in wanted.items()}
    problems = {
        "missing": missing,
        "left over": extra,
        "of another shape": shapes,
        "integers": [
            name
            for name, value in wanted.items()
            if value.is_floating_point() and not state.get(name, value).is_floating_point()
        ],
        "not finite": [name for name, value in fitted.items() if not value.isfinite().all()],
    }
    texts = [f"{what}: {_some(names)}" for what, names in problems.items() if names]
    if texts:
        raise UserError(f"{origin}: not weights of this train.student; {'; '.join(texts)}")
    return fitted


def _choose(wanted: Mapping[str, Tensor], found: Mapping[str, Any], origin: str) -> State:
    """Those tensors, by name less a prefix, that fit most of the `wanted` names."""
    states = [
        {
            name.removeprefix(prefix): value
            for name, value in tensors.items()
            if name.startswith(prefix)
        }
        for tensors in _tensors(found)
        for prefix in _prefixes(wanted, tensors)
    ]
    if not states:
        raise UserError(f"{origin}: holds no weights; name another file")
    scores = [sum(name in state for name in wanted) for state in states]
    best = [state for state, score in zip(states, scores, strict=True) if score == max(scores)]
    if len(best) > 1:
        raise UserError(f"{origin}: holds {len(best)} networks of this kind; save one by itself")
    return best[0]


def _tensors(found: Mapping[str, Any]) -> Iterator[State]:
    """`found` and the dictionaries in it, less what is no tensor of plain numbers."""
    waiting: list[Mapping[Any, Any]] = [found]
    seen: list[Mapping[Any, Any]] = []
    for mapping in waiting:  # which grows meanwhile
        if any(mapping is other for other in seen):
            continue
        seen.append(mapping)
        own = {key: value for key, value in mapping.items() if isinstance(key, str)}
        if tensors := {name: value for name, value in own.items() if _is_plain(value)}:
            yield tensors
        waiting += [value for value in mapping.values() if isinstance(value, Mapping)]


def _is_plain(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not (value.is_complex() or value.is_quantized or value.is_meta)
    )


def _prefixes(wanted: Mapping[str, Tensor], tensors: State) -> set[str]:
    first = next(iter(wanted))
    return {"", *(name.removesuffix(first) for name in tensors if name.endswith(f".{first}"))}


def _timm_name(student: StudentConfig, tag: str) -> str:
    library, _, name = student.architecture.rpartition(":")
    if library != "timm" and not student.is_resnet:
        raise UserError(
            f"{_FIELD}=timm:{tag}: {name} is torchvision's; take torchvision:ENUM, or "
            f"train.student.architecture=timm:{name}"
        )
    return name


def _torch_downloads() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _not_there(what: str, place: object, command: str) -> UserError:
    return UserError(f"{_FIELD}={what}: {place} is not there; download it with `{command}`")


def _unknown(what: str, student: StudentConfig, known: Sequence[str]) -> UserError:
    near = difflib.get_close_matches(what.partition(":")[2], known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {_some(known) or 'none'}"
    return UserError(f"{_FIELD}={what}: {student.architecture} has no such weights; {hint}")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
