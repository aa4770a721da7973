"""Reads the tensors out of an official StyleGAN2-ADA pickle, executing nothing from it (for golden
tests).
"""

from __future__ import annotations

import collections
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar


def _module_state(meta: dict[str, Any]) -> dict[str, Any]:
    return meta["state"]  # the reference implementation would exec(meta["module_src"]) here


def _load_storage(payload: bytes) -> Any:
    return torch.load(io.BytesIO(payload), weights_only=True)


ALLOWED = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _module_state,
    ("torch.storage", "_load_from_bytes"): _load_storage,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("dnnlib.util", "EasyDict"): dict,
    ("builtins", "set"): set,
    ("numpy", "dtype"): np.dtype,
    ("numpy._core.multiarray", "scalar"): scalar,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"global {module}.{name} is not on the list") from None


def read_network(path: Path, name: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Constructor arguments and state dict of network `name` ("G", "D" or "G_ema")."""
    with path.open("rb") as file:
        network = _Unpickler(file).load()[name]
    tensors: dict[str, torch.Tensor] = {}

    def walk(state: dict[str, Any], prefix: str) -> None:
        for kind in ("_parameters", "_buffers"):
            tensors.update(
                {
                    prefix + key: value.detach()
                    for key, value in state[kind].items()
                    if value is not None
                }
            )
        for key, child in state["_modules"].items():
            walk(child, f"{prefix}{key}.")

    walk(network, "")
    return network["_init_kwargs"], tensors
