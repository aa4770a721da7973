"""Hostile files in every container – pickle, zip and old torch file, folder: none runs anything,
takes much memory or gets through; the refusal is one line.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.teacher.importing.checkpoint import import_teacher
from pipeline.teacher.importing.source import read_file
from pipeline.teacher.importing.states import find_states
from pipeline.teacher.importing.torch_files import OLD_HEAD
from shards.errors import UserError
from tests.support.ordinary_dcgan import small_dcgan
from tests.support.pickles import BOMBS, PROTO, Reduced, peak_bytes


def write_pickle(folder: Path, content: bytes) -> Path:
    (folder / "network.pkl").write_bytes(content)
    return folder / "network.pkl"


def write_zip(folder: Path, content: bytes) -> Path:
    with zipfile.ZipFile(folder / "network.pt", "w") as archive:
        archive.writestr("network/data.pkl", content)
        archive.writestr("network/data/0", bytes(8))
    return folder / "network.pt"


def write_old(folder: Path, content: bytes) -> Path:
    heads = [pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2)]
    whole = OLD_HEAD + b"".join(heads) + content + pickle.dumps([], 2)
    (folder / "network.pt").write_bytes(whole)
    return folder / "network.pt"


def write_folder(folder: Path, content: bytes) -> Path:
    write_zip(folder, content).rename(folder / "netG.pth")
    return folder


CONTAINERS: dict[str, Callable[[Path, bytes], Path]] = {
    "pickle": write_pickle,
    "zip": write_zip,
    "old": write_old,
    "folder": write_folder,
}
every_container = pytest.mark.parametrize("write", CONTAINERS.values(), ids=CONTAINERS)


def refusal(path: Path) -> str:
    """One printable line that names the file; nothing is written."""
    out = path.parent / f"{path.name}-teacher"
    with pytest.raises(UserError) as error:
        import_teacher(path, out)
    assert not out.exists()
    message = str(error.value)
    assert message.isprintable()
    assert str(path) in message
    assert len(message) < 2000
    return message


@every_container
def test_import_calls_of_the_system_are_named_and_not_made(
    write: Callable[[Path, bytes], Path], tmp_path: Path
) -> None:
    trace = tmp_path / "executed"
    calls = [
        Reduced(os.system, f"touch {trace}"),
        Reduced(eval, f"open({str(trace)!r}, 'w')"),
        Reduced(torch.hub.load, str(trace)),
    ]
    message = refusal(write(tmp_path, pickle.dumps({"g_ema": calls}, 2)))
    assert not trace.exists()
    for name in ("posix.system", "eval", "torch.hub.load"):
        assert name in message


@pytest.mark.slow
@every_container
@pytest.mark.parametrize("name", sorted(BOMBS.keys() - {"opcode-flood"}))
def test_import_bomb_or_damage_is_refused_in_little_memory(
    name: str, write: Callable[[Path, bytes], Path], tmp_path: Path
) -> None:
    path = write(tmp_path, PROTO + BOMBS[name])
    before = peak_bytes()
    refusal(path)
    assert peak_bytes() < before + 2**28


@pytest.mark.parametrize("begun", [b"\x8e" + struct.pack("<Q", 3 * 2**30), b"I", b"c"], ids=ascii)
def test_import_literal_as_long_as_a_sparse_file_is_refused_in_little_memory(
    begun: bytes, tmp_path: Path
) -> None:
    with (tmp_path / "network.pkl").open("wb") as file:
        file.write(PROTO + begun)
        file.truncate(4 * 2**30)
    before = peak_bytes()
    refusal(tmp_path / "network.pkl")
    assert peak_bytes() < before + 2**28


@every_container
def test_import_more_classes_than_networks_have_is_refused(
    write: Callable[[Path, bytes], Path], tmp_path: Path
) -> None:
    names = b"".join(b"cpackage\nName%d\n0" % index for index in range(50_000))
    before = peak_bytes()
    assert "classes" in refusal(write(tmp_path, PROTO + names + b"N."))
    assert peak_bytes() < before + 2**28


@every_container
def test_import_text_that_steers_a_terminal_is_not_shown_as_it_is(
    write: Callable[[Path, bytes], Path], tmp_path: Path
) -> None:
    content = {"\x1b[31mred": torch.nn.Identity, "\u202eback": 1}
    assert "net" in refusal(write(tmp_path, pickle.dumps(content, 2)))


class Node:
    """Pickles as a torch module of some package."""

    def __init__(self) -> None:
        self._parameters: dict[str, Any] = {}
        self._buffers: dict[str, Any] = {}
        self._modules: dict[str, Node] = {}


@every_container
@pytest.mark.parametrize("shape", ["circle", "doubling", "shared", "chain"])
def test_import_modules_that_no_walk_would_end_in_are_refused(
    shape: str, write: Callable[[Path, bytes], Path], tmp_path: Path
) -> None:
    root: Any = Node()
    if shape == "circle":
        root._modules["itself"] = root
    elif shape == "doubling":
        for _ in range(30):
            below, root = root, Node()
            root._modules |= {"a": below, "b": below}
    elif shape == "shared":
        for index in range(5000):
            root._modules[str(index)] = Node()
        root = dict.fromkeys(range(5000), root)
    else:
        for _ in range(60):
            below, root = root, Node()
            root._modules["a"] = below
    refusal(write(tmp_path, pickle.dumps(root, 2)))


def zip_state(**changes: Any) -> bytes:
    """A state dict of one tensor as torch.save writes it, but for `changes`."""
    said = {"kind": "storage", "key": "0", "num": 6, "size": (2, 3), "stride": (3, 1)} | changes
    file, here = io.BytesIO(), object()

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> Any:
            if value is not here:
                return None
            return (said["kind"], torch.FloatStorage, said["key"], "cpu", said["num"])

    layout = (0, said["size"], said["stride"], False, {})
    tensor = Reduced(torch._utils._rebuild_tensor_v2, here, *layout)
    Pickler(file, 2).dump({"weight": tensor})
    return file.getvalue()


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "1"},
        {"key": "../../data.pkl"},
        {"key": ["0"]},
        {"kind": "module"},
        {"num": 7},
        {"num": 2**40},
        {"num": -6},
        {"num": "6"},
        {"size": (2**20, 2**20), "stride": (0, 0)},
        {"size": (2, 4), "stride": (3, 1)},
    ],
    ids=str,
)
def test_read_torch_zip_storage_that_is_not_there_is_refused(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "network.pt"
    for said in ({}, changes):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("network/data.pkl", zip_state(**said))
            archive.writestr("network/data/0", struct.pack("<6f", *range(6)))
        if not said:
            assert read_file(path)["weight"].to_tensor().tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(UserError, match=r"network\.pt"):
        read_file(path)["weight"].to_tensor()


def test_load_of_many_tensors_that_share_a_storage_is_refused_in_little_memory(
    tmp_path: Path,
) -> None:
    shared = torch.zeros(1 << 10, 1 << 10)
    torch.save({f"{index}.weight": shared for index in range(1000)}, tmp_path / "network.pt")
    state = find_states(read_file(tmp_path / "network.pt"))[""]
    before = peak_bytes()
    with pytest.raises(ValueError, match="share storage"):
        state.load()
    assert peak_bytes() - before < 300 * 2**20


def test_read_torch_zip_of_two_pickles_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "network.pt", "w") as archive:
        for name in ("a", "b"):
            archive.writestr(f"{name}/data.pkl", pickle.dumps({}, 2))
    assert "not of torch.save" in refusal(tmp_path / "network.pt")


def old_file() -> bytes:
    file = io.BytesIO()
    state = {"a": torch.arange(6.0), "b": torch.arange(3)}
    torch.save(state, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def test_read_old_torch_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path, content = tmp_path / "network.pt", old_file()
    path.write_bytes(content)
    assert read_file(path)["b"].to_tensor().tolist() == [0, 1, 2]
    for end in range(20, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises(UserError, match=r"network\.pt"):
            read_file(path)


def test_read_old_torch_storages_of_another_length_are_refused(tmp_path: Path) -> None:
    path, content = tmp_path / "network.pt", old_file()
    for num, other in ((6, 5), (6, 2**40), (3, 2)):
        raw = struct.pack("<q", num)
        start = content.rindex(raw + struct.pack("<f" if num == 6 else "<q", 0))
        path.write_bytes(content[:start] + struct.pack("<q", other) + content[start + 8 :])
        with pytest.raises(UserError, match="damaged"):
            read_file(path)


def test_read_old_torch_storages_that_are_not_listed_are_refused(tmp_path: Path) -> None:
    content = {"weight": Reduced(torch._utils._rebuild_tensor_v2, torch.zeros(1), 0, (1,), (1,))}
    refusal(write_old(tmp_path, pickle.dumps(content, 2)))


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "old"])
def test_read_torch_whole_module_is_read_without_its_source(is_zip: bool, tmp_path: Path) -> None:
    torch.save(small_dcgan(), tmp_path / "netG.pt", _use_new_zipfile_serialization=is_zip)
    content = read_file(tmp_path / "netG.pt")
    assert content.class_path == "tests.support.ordinary_dcgan.OrdinaryDCGAN"
    assert set(content.state["_modules"]) == {"main"}
