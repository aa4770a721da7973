"""Reading hostile or damaged pickles: none runs anything, takes much memory or gets through; the
refusal is one line.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.teacher.importing.safe_pickle import TensorFlowNetwork
from pipeline.teacher.importing.source import read_file
from shards.errors import UserError
from tests.support.pickles import (
    BOMBS,
    GOLDEN,
    GOLDEN_TF,
    PROTO,
    Read,
    Reduced,
    one_line,
    peak_bytes,
    refusal,
)


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
    content = b"".join(b"cevil\nname%03d\n)R0" % index for index in range(50))
    message = refusal(read, PROTO + content + b"N.")
    assert "evil.name000" in message
    assert "and 40 more" in message


def test_read_pickle_attributes_for_a_listed_name_do_not_stick(read: Read) -> None:
    build = b"N}X\x05\x00\x00\x00stateK\x01s\x86b."  # setattr(name, "state", 1)
    for name in (b"dnnlib.util\nEasyDict", b"dnnlib.tflib.network\nNetwork", b"numpy\ndtype"):
        assert "damaged" in refusal(read, PROTO + b"c" + name + b"\n" + build)
    assert not hasattr(TensorFlowNetwork, "state")


def test_read_pickle_scalar_of_no_number_is_refused(read: Read) -> None:
    for value in (np.str_("ab"), np.complex64(1), np.datetime64(3, "s")):
        refusal(read, pickle.dumps(value))


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_read_pickle_bomb_or_damage_is_refused_in_little_memory(read: Read, name: str) -> None:
    before = peak_bytes()
    assert "damaged" in refusal(read, PROTO + BOMBS[name])
    assert peak_bytes() < before + 2**28


def test_read_pickle_copies_of_one_long_text_are_refused(read: Read) -> None:
    text = b"X" + struct.pack("<I", 2**20) + b"a" * 2**20 + b"q\x00"
    encode = b"c_codecs\nencode\nq\x010" + b"h\x01h\x00X\x06\0\0\0latin1\x86R" * 5000
    before = peak_bytes()
    refusal(read, PROTO + text + encode + b".")
    assert peak_bytes() < before + 2**28


def test_read_pickle_nested_modules_beyond_measure_are_refused(read: Read) -> None:
    begin = b"}(X\x0a\0\0\0class_nameX\x01\0\0\0aX\x05\0\0\0state}X\x01\0\0\0a"
    call = b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n"
    depth = 20_000
    refusal(read, PROTO + (call + begin) * depth + b"N" + b"su\x85R" * depth + b".")


def cut_points() -> list[int]:
    size = GOLDEN.stat().st_size
    return [1, 2, 3, 10, 11, 12, 100, 1000, 5000, *range(20_000, size, size // 10), size - 1]


@pytest.mark.parametrize("end", cut_points())
def test_read_pickle_truncated_anywhere_is_refused(read: Read, end: int) -> None:
    refusal(read, GOLDEN.read_bytes()[:end])


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


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"Once upon a time\n", id="text"),
        pytest.param(zip_file(), id="zip"),
        pytest.param(struct.pack("<Q", 3) + b"{,}", id="safetensors"),
        pytest.param(pickle.dumps({"a": 1}, 0), id="protocol-0"),
        pytest.param(b"\x80\x06N.", id="protocol-6"),
    ],
)
def test_read_pickle_file_of_another_kind_is_refused(read: Read, content: bytes) -> None:
    refusal(read, content)


def test_read_pickle_empty_file_is_refused(read: Read) -> None:
    assert "empty" in refusal(read, b"")


def test_read_pickle_missing_file_or_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "network.pkl").mkdir()
    for path in (tmp_path / "network.pkl", tmp_path / "network.pkl" / "no.pkl"):
        with pytest.raises(UserError, match=r"network\.pkl"):
            read_file(path)


def test_read_pickle_file_of_more_than_16_gib_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.pkl"
    path.write_bytes(PROTO)
    os.truncate(path, 16 * 2**30 + 1)  # a hole, not written
    with pytest.raises(UserError, match="large"):
        read_file(path)
