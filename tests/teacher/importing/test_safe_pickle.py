"""Reading official pickles: what comes out of sound ones."""

from __future__ import annotations

import argparse
import collections
import datetime
import functools
import pickle
import typing
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.teacher.importing.source import read_file
from pipeline.teacher.importing.stand_ins import StoredModule, TensorFlowNetwork
from pipeline.teacher.importing.stored_tensors import StoredTensor
from tests.support.official_files.pickling import (
    EasyDict,
    Network,
    _reconstruct_persistent_obj,
    official_modules,
)
from tests.support.pickles import ARRAYS, GOLDEN, GOLDEN_TF, PROTOCOLS, TENSORS, Read, Reduced


def walk_tensors(network: StoredModule, prefix: str = "") -> Iterator[tuple[str, StoredTensor]]:
    for kind in ("_parameters", "_buffers"):
        for name, value in network.state[kind].items():
            if value is not None:
                yield prefix + name, value
    for name, child in network.state["_modules"].items():
        yield from walk_tensors(child, f"{prefix}{name}.")


def stored_w_avg(golden: Path) -> torch.Tensor:
    """What truncation pulled the stored ws towards: truncated = w_avg + 0.7 (ws - w_avg)."""
    with np.load(golden.with_suffix(".npz")) as arrays:
        average = (arrays["ws_truncated_psi_0_7"] - 0.7 * arrays["ws"]) / 0.3
    return torch.from_numpy(average[0, 0])


def test_read_pickle_golden_pytorch_gives_networks_settings_and_tensors() -> None:
    content = read_file(GOLDEN)
    assert set(content) == {"G", "D", "G_ema", "training_set_kwargs", "augment_pipe"}
    network = content["G_ema"]
    assert isinstance(network, StoredModule)
    assert network.class_name == "Generator"
    assert network.state["_init_kwargs"]["z_dim"] == 24
    assert network.state["_init_kwargs"]["synthesis_kwargs"]["conv_clamp"] == 256
    tensors = {name: value.to_tensor() for name, value in walk_tensors(network)}
    assert tensors["synthesis.b4.const"].shape == (20, 4, 4)
    w_avg = tensors["mapping.w_avg"]
    torch.testing.assert_close(w_avg, stored_w_avg(GOLDEN), rtol=0, atol=1e-5)
    assert tensors["synthesis.b32.torgb.weight"].shape == (3, 16, 1, 1)
    assert tensors["synthesis.b4.const"].numpy().tobytes() in GOLDEN.read_bytes()
    assert all(value.isfinite().all() and value.is_contiguous() for value in tensors.values())


def test_read_pickle_golden_tensorflow_gives_three_networks_and_their_variables() -> None:
    networks = read_file(GOLDEN_TF)
    assert isinstance(networks, tuple)
    assert all(isinstance(network, TensorFlowNetwork) for network in networks)
    assert [network.state["name"] for network in networks] == ["Gs", "D", "Gs"]
    average = networks[2].state
    assert average["static_kwargs"]["latent_size"] == 24
    w_avg = dict(average["variables"])["dlatent_avg"].to_tensor()
    torch.testing.assert_close(w_avg, stored_w_avg(GOLDEN_TF), rtol=0, atol=1e-5)
    variables = dict(average["components"]["synthesis"].state["variables"])
    assert variables["32x32/Conv0_up/weight"].to_tensor().shape == (3, 3, 20, 16)
    assert variables["noise0"].to_tensor().dtype == torch.float32
    weight = variables["4x4/Const/const"].to_tensor()
    assert weight.numpy().tobytes() in GOLDEN_TF.read_bytes()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_read_pickle_modules_of_any_protocol_round_trip(read: Read, protocol: int) -> None:
    meta = EasyDict(
        type="class",
        version=6,
        module_src="raise SystemExit",
        class_name="Generator",
        state={
            "_parameters": OrderedDict(weight=torch.nn.Parameter(TENSORS["float"])),
            "_buffers": OrderedDict(filter=TENSORS["transposed"]),
            "_modules": OrderedDict(),
            "_names": {"a", "b"},
            "_init_kwargs": EasyDict(gain=np.float32(0.5), clamp=None),
        },
    )
    with official_modules():
        content = pickle.dumps({"G_ema": Reduced(_reconstruct_persistent_obj, meta)}, protocol)
    network = read(content)["G_ema"]
    assert network.class_name == "Generator"
    assert not hasattr(network, "module_src")
    assert network.state["_names"] == {"a", "b"}
    assert network.state["_init_kwargs"] == {"gain": 0.5, "clamp": None}
    weight = network.state["_parameters"]["weight"].to_tensor()
    assert torch.equal(weight, TENSORS["float"])
    assert not weight.requires_grad
    assert torch.equal(network.state["_buffers"]["filter"].to_tensor(), TENSORS["transposed"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_read_pickle_tensorflow_tuple_of_any_protocol_round_trips(
    read: Read, protocol: int
) -> None:
    kwargs = EasyDict(resolution=np.int64(32))
    network = Network(static_kwargs=kwargs, variables=[("w", ARRAYS["float"])])
    with official_modules():
        content = pickle.dumps((network, network, network), protocol)
    first, _, last = read(content)
    assert first is last
    assert last.state["static_kwargs"] == {"resolution": 32}
    ((name, array),) = last.state["variables"]
    assert name == "w"
    assert np.array_equal(array.to_tensor(), ARRAYS["float"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_read_pickle_plain_values_of_any_protocol_come_out_as_python(
    read: Read, protocol: int
) -> None:
    numbers = [np.float32(0.5), np.float64(2), np.int64(-4), np.uint8(7), np.bool_(True)]
    values = [*numbers, {1}, frozenset("a"), b"", b"\xff", OrderedDict(a=1), torch.Size([1, 2])]
    found = read(pickle.dumps(values, protocol))
    assert found == [0.5, 2.0, -4, 7, True, {1}, {"a"}, b"", b"\xff", {"a": 1}, (1, 2)]
    assert [type(value) for value in found[:5]] == [float, float, int, int, bool]
    assert read(pickle.dumps(bytearray(b"ab"), protocol)) == b"ab"


def test_read_pickle_numpy_1_names_are_understood(read: Read) -> None:
    content = pickle.dumps([np.float32(2), ARRAYS["float"]], 2)
    number, array = read(content.replace(b"numpy._core.", b"numpy.core."))
    assert number == 2.0
    assert np.array_equal(array.to_tensor(), ARRAYS["float"])


def test_read_pickle_bytes_after_the_end_are_ignored(read: Read) -> None:
    assert read(pickle.dumps({"a": 1}) + b"garbage") == {"a": 1}


def test_read_pickle_objects_of_any_class_keep_their_attributes(read: Read) -> None:
    objects = {
        "args": argparse.Namespace(size=32, path=Path("/data"), day=datetime.date(2020, 1, 2)),
        "linear": nn.Linear(2, 3),
        "counts": collections.Counter(a=2),
        "act": functools.partial(nn.functional.leaky_relu, negative_slope=0.2),
        "kind": torch.bfloat16,
        "any": typing.Any,
    }
    found = read(pickle.dumps(objects, 2))
    assert found["args"].class_path == "argparse.Namespace"
    assert found["args"].state["size"] == 32
    linear = found["linear"]
    assert (linear.class_path, linear.class_name) == ("torch.nn.modules.linear.Linear", "Linear")
    assert linear.state["out_features"] == 3
    weight = linear.state["_parameters"]["weight"].to_tensor()
    assert torch.equal(weight, objects["linear"].weight)  # type: ignore[attr-defined]
    assert found["kind"] is torch.bfloat16


def test_read_pickle_bound_methods_as_dill_writes_them_are_read_over(read: Read) -> None:
    load = b"cdill._dill\n_load_type\nX\x0a\0\0\0MethodType\x85R"
    method = load + b"ctorch.nn.functional\nrelu\n}\x86R"
    assert read(b"\x80\x04" + method + b".").class_path == "dill.types.MethodType"
