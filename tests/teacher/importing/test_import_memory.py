"""How much memory an import takes, in a process of its own."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.support.ordinary_dcgan import FIRST, Layer, OrdinaryDCGAN

NUM_MB = 100
LAYERS = [Layer(1200, **FIRST), Layer(900), Layer(500), Layer(3)]
CHILD = """
import sys
from pathlib import Path
from pipeline.teacher.importing.checkpoint import import_teacher
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024
before = peak()
import_teacher(Path(sys.argv[1]), Path(sys.argv[2]))
print(peak() - before)
"""


def write_zip(module: OrdinaryDCGAN, path: Path) -> None:
    content: dict[str, Any] = {"netG": module.state_dict()}
    content["optimizer"] = [torch.zeros(2**20) for _ in range(NUM_MB // 4)]
    torch.save(content, path)


def write_old(module: OrdinaryDCGAN, path: Path) -> None:
    torch.save(module.state_dict(), path, _use_new_zipfile_serialization=False)


def write_safetensors(module: OrdinaryDCGAN, path: Path) -> None:
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, path)


def write_pickle(module: OrdinaryDCGAN, path: Path) -> None:
    path.write_bytes(pickle.dumps({"generator": module}))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("write", [write_zip, write_old, write_safetensors, write_pickle])
def test_import_takes_less_than_five_times_the_weights(
    write: Callable[[OrdinaryDCGAN, Path], None], tmp_path: Path
) -> None:
    """200 MB in less than 1 GB beyond it; the zip has as much again that nobody asks for."""
    module = OrdinaryDCGAN(160, LAYERS)
    weights_mb = sum(value.nbytes for value in module.state_dict().values()) >> 20
    assert 0.9 * NUM_MB < weights_mb < 1.2 * NUM_MB
    write(module, tmp_path / "netG.pt")
    command = [sys.executable, "-c", CHILD, tmp_path / "netG.pt", tmp_path / "teacher"]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(found.stdout) < 5 * weights_mb
