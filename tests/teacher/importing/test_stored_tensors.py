"""Tensors and arrays of official pickles: every sound layout is restored, and none that lies about
its size or holds code.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.teacher.importing.stored_arrays import StoredArray
from pipeline.teacher.importing.stored_tensors import StoredTensor
from shards.errors import UserError
from tests.support.pickles import ARRAYS, PROTOCOLS, TENSORS, Read, Reduced, one_line, peak_bytes


def tensor_refusal(stored: StoredTensor | StoredArray) -> str:
    with pytest.raises(UserError) as error:
        stored.to_tensor()
    return one_line(error.value)


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
def test_stored_tensor_with_attributes_is_restored_without(read: Read, protocol: int) -> None:
    tensor = torch.arange(6.0)
    tensor.step = 3  # type: ignore[attr-defined]
    assert torch.equal(read(pickle.dumps(tensor, protocol)).to_tensor(), torch.arange(6.0))


def test_stored_tensor_result_has_memory_of_its_own(read: Read) -> None:
    tensor = read(pickle.dumps(TENSORS["slice"]))
    tensor.to_tensor().zero_()
    assert torch.equal(tensor.to_tensor(), TENSORS["slice"])


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
