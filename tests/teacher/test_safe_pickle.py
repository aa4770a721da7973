"""Reading official pickles: what comes out of sound ones, and that no hostile or damaged one runs
anything, takes much memory or gets through.
"""

from __future__ import annotations

import io
import os
import pickle
import resource
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.teacher.safe_pickle import (
    PersistentModule,
    StoredArray,
    StoredTensor,
    TensorFlowNetwork,
    read_pickle,
)
from shards.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden" / "stylegan2ada-cifar-tiny.pkl"
GOLDEN_TF = Path(__file__).parents[1] / "golden" / "stylegan2ada-tf-tiny.pkl"
PROTOCOLS = (2, 3, 4, 5)
PROTO = b"\x80\x04"
TENSORS = {
    "float": torch.arange(6.0).reshape(2, 3),
    "transposed": torch.arange(6.0).reshape(2, 3).t(),
    "slice": torch.arange(10.0)[2:8:2],
    "scalar": torch.tensor(3.0),
    "empty": torch.empty(0, 4),
    "long": torch.tensor([-1, 2**40]),
    "bool": torch.tensor([True, False]),
    "bfloat16": torch.ones(3, dtype=torch.bfloat16),
}
ARRAYS = {
    "float": np.arange(6, dtype="<f4").reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big_endian": np.arange(3, dtype=">i4"),
    "strided": np.arange(12, dtype="f4")[::2],
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 3), "f4"),
    "scalar": np.array(3.0, "f4"),
}


class Reduced:
    """Pickles as the call of a global: `args` given to what `target` is named."""

    def __init__(self, target: Callable[..., Any], *args: Any) -> None:
        self.call = (target, args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """The official classes under their names, for writing; gone when the test reads."""

    def reconstruct(meta: Any) -> None:
        raise AssertionError("executed")

    class EasyDict(dict):  # type: ignore[type-arg]
        pass

    class Network:
        def __init__(self, **state: Any) -> None:
            self.state = state

        def __getstate__(self) -> dict[str, Any]:
            return self.state

    names = {
        "torch_utils.persistence": {"_reconstruct_persistent_obj": reconstruct},
        "dnnlib.util": {"EasyDict": EasyDict},
        "dnnlib.tflib.network": {"Network": Network},
    }
    for module_name, content in names.items():
        parts = module_name.split(".")
        for end in range(1, len(parts)):
            package = types.ModuleType(".".join(parts[:end]))
            monkeypatch.setitem(sys.modules, package.__name__, package)
        module = types.ModuleType(module_name)
        monkeypatch.setitem(sys.modules, module_name, module)
        for name, value in content.items():
            value.__module__, value.__qualname__, value.__name__ = module_name, name, name
            setattr(module, name, value)

    def forget() -> None:
        for name in [n for n in sys.modules if n.split(".")[0] in ("torch_utils", "dnnlib")]:
            monkeypatch.delitem(sys.modules, name)

    return types.SimpleNamespace(
        reconstruct=reconstruct, EasyDict=EasyDict, Network=Network, forget=forget
    )


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], Any]:
    def write_and_read(content: bytes) -> Any:
        path = tmp_path / "network.pkl"
        path.write_bytes(content)
        return read_pickle(path)

    return write_and_read


Read = Callable[[bytes], Any]


def refusal(read: Read, content: bytes) -> str:
    """The message of the refusal: one line that names the file."""
    with pytest.raises(UserError) as error:
        read(content)
    return one_line(error.value)


def one_line(error: UserError) -> str:
    message = str(error)
    assert "network.pkl" in message
    assert message.isprintable()
    assert len(message) < 2000
    return message


def tensor_refusal(stored: StoredTensor | StoredArray) -> str:
    with pytest.raises(UserError) as error:
        stored.to_tensor()
    return one_line(error.value)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def payload(tensor: torch.Tensor) -> bytes:
    """What a tensor's storage is inside an official pickle."""
    (content,) = tensor._typed_storage().__reduce__()[1]
    assert isinstance(content, bytes)
    return content


def stored(read: Read, content: bytes, *layout: Any) -> Any:
    """A tensor read from a file that says `layout` (offset, size, stride) of a payload."""
    storage = Reduced(torch.storage._load_from_bytes, content)
    return read(pickle.dumps(Reduced(torch._utils._rebuild_tensor_v2, storage, *layout, False, {})))


def array_like(read: Read, shape: Any, dtype: Any, raw: Any) -> Any:
    class Array:
        def __reduce__(self) -> Any:
            function, args, _ = np.zeros(1).__reduce__()
            return function, args, (1, shape, np.dtype(dtype), False, raw)

    return read(pickle.dumps(Array()))


def walk_tensors(network: PersistentModule, prefix: str = "") -> Iterator[tuple[str, StoredTensor]]:
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
    content = read_pickle(GOLDEN)
    assert set(content) == {"G", "D", "G_ema", "training_set_kwargs", "augment_pipe"}
    network = content["G_ema"]
    assert isinstance(network, PersistentModule)
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
    networks = read_pickle(GOLDEN_TF)
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
def test_read_pickle_modules_of_any_protocol_round_trip(
    official: types.SimpleNamespace, read: Read, protocol: int
) -> None:
    meta = official.EasyDict(
        type="class",
        version=6,
        module_src="raise SystemExit",
        class_name="Generator",
        state={
            "_parameters": OrderedDict(weight=torch.nn.Parameter(TENSORS["float"])),
            "_buffers": OrderedDict(filter=TENSORS["transposed"]),
            "_modules": OrderedDict(),
            "_names": {"a", "b"},
            "_init_kwargs": official.EasyDict(gain=np.float32(0.5), clamp=None),
        },
    )
    content = pickle.dumps({"G_ema": Reduced(official.reconstruct, meta)}, protocol)
    official.forget()
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
    official: types.SimpleNamespace, read: Read, protocol: int
) -> None:
    kwargs = official.EasyDict(resolution=np.int64(32))
    network = official.Network(static_kwargs=kwargs, variables=[("w", ARRAYS["float"])])
    content = pickle.dumps((network, network, network), protocol)
    official.forget()
    first, _, last = read(content)
    assert first is last
    assert last.state["static_kwargs"] == {"resolution": 32}
    ((name, array),) = last.state["variables"]
    assert name == "w"
    assert np.array_equal(array.to_tensor(), ARRAYS["float"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", TENSORS)
def test_stored_tensor_of_any_layout_and_protocol_is_restored(
    read: Read, name: str, protocol: int
) -> None:
    tensor = read(pickle.dumps(TENSORS[name], protocol)).to_tensor()
    assert tensor.dtype == TENSORS[name].dtype
    assert tensor.is_contiguous()
    assert torch.equal(tensor, TENSORS[name])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ARRAYS)
def test_stored_array_of_any_layout_and_protocol_is_restored(
    read: Read, name: str, protocol: int
) -> None:
    tensor = read(pickle.dumps(ARRAYS[name], protocol)).to_tensor()
    expected = ARRAYS[name].astype(ARRAYS[name].dtype.newbyteorder("="))
    assert tensor.is_contiguous()
    assert tensor.shape == expected.shape
    assert torch.equal(tensor, torch.from_numpy(expected.copy()))


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


def test_stored_tensor_result_has_memory_of_its_own(read: Read) -> None:
    tensor = read(pickle.dumps(TENSORS["slice"]))
    tensor.to_tensor().zero_()
    assert torch.equal(tensor.to_tensor(), TENSORS["slice"])


def test_read_pickle_calls_of_the_system_are_named_and_not_made(read: Read, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    calls = [
        Reduced(os.system, f"touch {trace}"),
        Reduced(exec, f"open({str(trace)!r}, 'w')"),
        Reduced(eval, f"open({str(trace)!r}, 'w')"),
        Reduced(os.mkdir, str(trace)),
    ]
    message = refusal(read, pickle.dumps({"G_ema": calls}))
    assert not trace.exists()
    for name in ("posix.system", "builtins.exec", "builtins.eval", "posix.mkdir"):
        assert name in message


@pytest.mark.parametrize(
    "content",
    [
        b"cposix\nsystem\nq\x00)\x81}b(K\x01K\x02u.",  # NEWOBJ, BUILD, SETITEMS
        b"cposix\nsystem\n)R(K\x01e.",  # REDUCE, APPENDS
        b"cposix\nsystem\n)R(K\x01\x90.",  # ADDITEMS
        b"(K\x01iposix\nsystem\n.",  # INST
        b"(cposix\nsystem\nK\x01o.",  # OBJ
        b"cposix\nsystem\n)RN)R.",  # a failure that the stand-in caused
        b"cposix\nsystem\n)RN}a.",
    ],
)
def test_read_pickle_any_use_of_a_foreign_global_is_named(read: Read, content: bytes) -> None:
    assert "posix.system" in refusal(read, PROTO + content)


def test_read_pickle_many_foreign_globals_are_counted(read: Read) -> None:
    content = b"".join(b"cevil\nname%03d\n0" % index for index in range(50))
    message = refusal(read, PROTO + content + b"N.")
    assert "evil.name000" in message
    assert "and 40 more" in message


def test_read_pickle_attributes_for_a_listed_name_do_not_stick(read: Read) -> None:
    build = b"N}X\x05\x00\x00\x00stateK\x01s\x86b."  # setattr(name, "state", 1)
    for name in (b"dnnlib.util\nEasyDict", b"dnnlib.tflib.network\nNetwork", b"numpy\ndtype"):
        assert "damaged" in refusal(read, PROTO + b"c" + name + b"\n" + build)
    assert not hasattr(TensorFlowNetwork, "state")


def test_stored_tensor_payload_with_code_is_refused_unexecuted(read: Read, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    attack = pickle.dumps(Reduced(os.system, f"touch {trace}"), 2)
    head = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
    for content in (attack, head + attack, head + attack + payload(torch.ones(3))):
        assert "weights-only" in tensor_refusal(stored(read, content, 0, (3,), (1,)))
    assert not trace.exists()


def test_stored_tensor_payload_as_zip_is_refused(read: Read) -> None:
    file = io.BytesIO()
    torch.save(torch.ones(3), file)
    assert "weights-only" in tensor_refusal(stored(read, file.getvalue(), 0, (3,), (1,)))


def test_stored_tensor_payload_calling_a_harmless_function_is_refused(read: Read) -> None:
    file = io.BytesIO()  # a weights-only load would make the bytearray, of any size
    content = Reduced(bytearray, 2**20)
    torch.save(content, file, _use_new_zipfile_serialization=False)
    assert "weights-only" in tensor_refusal(stored(read, file.getvalue(), 0, (3,), (1,)))


@pytest.mark.parametrize("claimed", [4, 2**20, 2**31 - 1])
def test_stored_tensor_storage_larger_than_its_payload_is_refused(read: Read, claimed: int) -> None:
    honest = payload(torch.arange(3.0))
    count = b"J" + struct.pack("<i", claimed)
    lies = [honest.replace(b"K\x03Nt", count + b"Nt")]
    lies.append(lies[0].replace(struct.pack("<q", 3), struct.pack("<q", claimed)))
    before = peak_bytes()
    for lie in lies:
        assert lie != honest
        assert "weights-only" in tensor_refusal(stored(read, lie, 0, (3,), (1,)))
    assert peak_bytes() < before + 2**28


def test_stored_tensor_payload_without_its_data_is_refused(read: Read) -> None:
    honest = payload(torch.arange(3.0))
    for lie in (honest[:-1], honest[:-12], honest[:-20], honest[:100], b"", honest + b"\0"):
        assert "weights-only" in tensor_refusal(stored(read, lie, 0, (3,), (1,)))


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (2**40,), (0,)),
        (0, (2, 4), (0, 1)),
        (1, (6,), (1,)),
        (0, (2, 3), (4, 1)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (-2,), (1,)),
        (0, (2**62, 4, 2**62), (1, 1, 1)),
        (0, (2, 3), (1,)),
        (0, (1,) * 9, (1,) * 9),
        (0, (2.0,), (1,)),
        (0, (True,), (1,)),
        (7, (0,), (2**63,)),
        (0, 6, 1),
        (None, (2,), (1,)),
        (0, "23", (3, 1)),
    ],
)
def test_stored_tensor_layout_outside_its_storage_is_refused(
    read: Read, offset: Any, size: Any, stride: Any
) -> None:
    tensor = stored(read, payload(torch.arange(6.0)), offset, size, stride)
    assert "tensor" in tensor_refusal(tensor)


def test_stored_tensor_of_complex_numbers_is_refused(read: Read) -> None:
    assert "complex" in tensor_refusal(read(pickle.dumps(torch.ones(2, dtype=torch.complex64))))


@pytest.mark.parametrize(
    ("shape", "dtype", "raw"),
    [
        ((3,), "f4", b"\0" * 8),
        ((2**40,), "f4", b"\0" * 8),
        ((-1, -2), "f4", b"\0" * 8),
        ((2**62, 4), "f4", b""),
        ((1.0,), "f4", b"\0" * 4),
        ((1,) * 40, "f4", b"\0" * 4),
        ((1,), "O", [1]),
        ((1,), "O", b"\0" * 8),
        ((1,), "V4", b"\0" * 4),
        ((1,), "c8", b"\0" * 8),
        ((1,), "U1", b"\0" * 4),
        ((1,), "f4", None),
        (None, "f4", b"\0" * 4),
    ],
)
def test_stored_array_description_that_is_not_sound_is_refused(
    read: Read, shape: Any, dtype: str, raw: Any
) -> None:
    assert "array" in tensor_refusal(array_like(read, shape, dtype, raw))


def test_stored_array_of_objects_is_refused(read: Read) -> None:
    assert "array" in tensor_refusal(read(pickle.dumps(np.array([None, 1]))))


def test_read_pickle_scalar_of_no_number_is_refused(read: Read) -> None:
    for value in (np.str_("ab"), np.complex64(1), np.datetime64(3, "s")):
        refusal(read, pickle.dumps(value))


def doubling_tuples(use: bytes) -> bytes:
    return b")" + b"2\x86" * 60 + use + b"."


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"Nr\xff\xff\xff\x7f.", id="memo-index"),
        pytest.param(b"N0" * 1_000_001 + b"N.", id="opcode-flood"),
        pytest.param(b"\x8e" + struct.pack("<Q", 2**60) + b"abc.", id="bytes-2^60"),
        pytest.param(b"\x8d" + struct.pack("<Q", 2**60) + b"abc.", id="text-2^60"),
        pytest.param(b"\x96" + struct.pack("<Q", 2**60) + b"abc.", id="bytearray-2^60"),
        pytest.param(b"\x95" + struct.pack("<Q", 2**40) + b"N.", id="frame-2^40"),
        pytest.param(b"B" + struct.pack("<I", 2**32 - 1) + b"abc.", id="bytes-4GiB"),
        pytest.param(b"\x8b" + struct.pack("<i", 2**30) + b"abc.", id="integer-1GiB"),
        pytest.param(b"I" + b"9" * 5000 + b"\n.", id="integer-in-digits"),
        pytest.param(b"cbuiltins\nbytes\n\x8a\x06" + b"\xff" * 5 + b"\0\x85R.", id="bytes(n)"),
        pytest.param(b"cbuiltins\nbytearray\n\x8a\x06" + b"\xff" * 5 + b"\0\x85R.", id="bytearray"),
        pytest.param(b"]" + b"]" * 200_000 + b"a" * 200_000 + b".", id="deep-lists"),
        pytest.param(b")" + b"\x85" * 200_000 + b".", id="deep-tuples"),
        pytest.param(b"}q\0" + b")" + b"\x85" * 200_000 + b"Ns.", id="deep-key"),
        pytest.param(doubling_tuples(b""), id="doubling-tuples"),
        pytest.param(b"}" + doubling_tuples(b"Ns"), id="doubling-key"),
        pytest.param(b"\x8f(" + doubling_tuples(b"\x90"), id="doubling-set"),
        pytest.param(b"]q\0h\0a.", id="cycle"),
        pytest.param(b"U\x03pidQ.", id="persistent-id"),
        pytest.param(b"\x82\x01.", id="extension"),
        pytest.param(b"\x97.", id="out-of-band-buffer"),
        pytest.param(b"N0.", id="empty-stack"),
        pytest.param(b"h\x05.", id="unknown-memo"),
        pytest.param(b"\xff.", id="unknown-opcode"),
    ],
)
def test_read_pickle_bomb_or_damage_is_refused_in_little_memory(read: Read, content: bytes) -> None:
    before = peak_bytes()
    assert "damaged" in refusal(read, PROTO + content)
    assert peak_bytes() < before + 2**28


def test_read_pickle_copies_of_one_long_text_are_refused(read: Read) -> None:
    text = b"X" + struct.pack("<I", 2**20) + b"a" * 2**20 + b"q\x00"
    encode = b"c_codecs\nencode\nq\x010" + b"h\x01h\x00X\x06\0\0\0latin1\x86R" * 5000
    before = peak_bytes()
    refusal(read, PROTO + text + encode + b".")
    assert peak_bytes() < before + 2**28


def test_read_pickle_nested_modules_beyond_measure_are_refused(
    official: types.SimpleNamespace, read: Read
) -> None:
    begin = b"}(X\x0a\0\0\0class_nameX\x01\0\0\0aX\x05\0\0\0state}X\x01\0\0\0a"
    call = b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n"
    official.forget()
    depth = 20_000
    refusal(read, PROTO + (call + begin) * depth + b"N" + b"su\x85R" * depth + b".")


def cut_points() -> list[int]:
    size = GOLDEN.stat().st_size
    return [1, 2, 3, 10, 11, 12, 100, 1000, 5000, *range(20_000, size, size // 10), size - 1]


@pytest.mark.parametrize("end", cut_points())
def test_read_pickle_truncated_anywhere_is_refused(read: Read, end: int) -> None:
    refusal(read, GOLDEN.read_bytes()[:end])


def test_read_pickle_bytes_after_the_end_are_ignored(read: Read) -> None:
    assert read(pickle.dumps({"a": 1}) + b"garbage") == {"a": 1}


@pytest.mark.parametrize("seed", range(30))
def test_read_pickle_altered_bytes_are_refused_or_harmless(read: Read, seed: int) -> None:
    generator = np.random.default_rng(seed)
    content = bytearray(GOLDEN_TF.read_bytes())
    for position in generator.integers(0, 4000, 10):
        content[position] = generator.integers(0, 256)
    try:
        read(bytes(content))
    except UserError as error:
        one_line(error)


def zip_file() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.pkl", b"")
    return file.getvalue()


def legacy_state_dict() -> bytes:
    file = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"Once upon a time\n", id="text"),
        pytest.param(zip_file(), id="zip"),
        pytest.param(legacy_state_dict(), id="torch-save"),
        pytest.param(struct.pack("<Q", 2) + b"{}", id="safetensors"),
        pytest.param(pickle.dumps({"a": 1}, 0), id="protocol-0"),
        pytest.param(b"\x80\x06N.", id="protocol-6"),
    ],
)
def test_read_pickle_file_of_another_kind_points_to_the_other_path(
    read: Read, content: bytes
) -> None:
    assert "--architecture" in refusal(read, content)


def test_read_pickle_empty_file_is_refused(read: Read) -> None:
    assert "empty" in refusal(read, b"")


def test_read_pickle_missing_file_or_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "network.pkl").mkdir()
    for path in (tmp_path / "network.pkl", tmp_path / "network.pkl" / "no.pkl"):
        with pytest.raises(UserError, match=r"network\.pkl"):
            read_pickle(path)


def test_read_pickle_file_of_more_than_16_gib_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.pkl"
    path.write_bytes(PROTO)
    os.truncate(path, 16 * 2**30 + 1)  # a hole, not written
    with pytest.raises(UserError, match="large"):
        read_pickle(path)
