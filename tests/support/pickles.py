"""Pickles for the restricted reader: golden ones, sound values, calls; and what a refusal says."""

from __future__ import annotations

import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shards.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden" / "stylegan2ada-cifar-tiny.pkl"
GOLDEN_TF = Path(__file__).parents[1] / "golden" / "stylegan2ada-tf-tiny.pkl"
PROTOCOLS = (2, 3, 4, 5)
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
PROTO = b"\x80\x04"


def doubling_tuples(use: bytes) -> bytes:
    return b")" + b"2\x86" * 60 + use + b"."


BOMBS = {
    "memo-index": b"Nr\xff\xff\xff\x7f.",
    "opcode-flood": b"N0" * 1_000_001 + b"N.",
    "bytes-2^60": b"\x8e" + struct.pack("<Q", 2**60) + b"abc.",
    "text-2^60": b"\x8d" + struct.pack("<Q", 2**60) + b"abc.",
    "bytearray-2^60": b"\x96" + struct.pack("<Q", 2**60) + b"abc.",
    "frame-2^40": b"\x95" + struct.pack("<Q", 2**40) + b"N.",
    "bytes-4GiB": b"B" + struct.pack("<I", 2**32 - 1) + b"abc.",
    "integer-1GiB": b"\x8b" + struct.pack("<i", 2**30) + b"abc.",
    "integer-in-digits": b"I" + b"9" * 5000 + b"\n.",
    "bytes(n)": b"cbuiltins\nbytes\n\x8a\x06" + b"\xff" * 5 + b"\0\x85R.",
    "bytearray": b"cbuiltins\nbytearray\n\x8a\x06" + b"\xff" * 5 + b"\0\x85R.",
    "deep-lists": b"]" + b"]" * 200_000 + b"a" * 200_000 + b".",
    "deep-tuples": b")" + b"\x85" * 200_000 + b".",
    "deep-key": b"}q\0" + b")" + b"\x85" * 200_000 + b"Ns.",
    "doubling-tuples": doubling_tuples(b""),
    "doubling-key": b"}" + doubling_tuples(b"Ns"),
    "doubling-set": b"\x8f(" + doubling_tuples(b"\x90"),
    "cycle": b"]q\0h\0a.",
    "persistent-id": b"U\x03pidQ.",
    "extension": b"\x82\x01.",
    "out-of-band-buffer": b"\x97.",
    "empty-stack": b"N0.",
    "unknown-memo": b"h\x05.",
    "unknown-opcode": b"\xff.",
}
"""Pickles, without their first opcode, that would take memory or time out of proportion, or are
damaged.
"""
Read = Callable[[bytes], Any]


class Reduced:
    """Pickles as the call of a global: `args` given to what `target` is named."""

    def __init__(self, target: Callable[..., Any], *args: Any) -> None:
        self.call = (target, args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def refusal(read: Read, content: bytes) -> str:
    """The message of the refusal: one line that names the file."""
    with pytest.raises(UserError) as error:
        read(content)
    return one_line(error.value)


def one_line(error: UserError) -> str:
    message = str(error)
    assert "network.pkl" in message, message
    assert message.isprintable()
    assert len(message) < 2000
    return message


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
