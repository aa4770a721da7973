"""How much memory an import takes, in a process of its own."""

from __future__ import annotations

import pickle
import subprocess
import sys
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
def memory(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) // 1024
for file in map(Path, sys.argv[1:]):  # the first is small: what libraries take is not counted
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
    before = memory("VmRSS")
    import_teacher(file, file.with_suffix(".teacher"))
    print(memory("VmHWM") - before)
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


WRITERS = (write_zip, write_old, write_safetensors, write_pickle)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc")
def test_import_takes_less_than_five_times_the_weights(tmp_path: Path) -> None:
    """200 MB in less than 1 GB beyond it; the zip has as much again that nobody asks for."""
    small, module = OrdinaryDCGAN(16, [Layer(4, **FIRST), Layer(3)]), OrdinaryDCGAN(160, LAYERS)
    weights_mb = sum(value.nbytes for value in module.state_dict().values()) >> 20
    assert 0.9 * NUM_MB < weights_mb < 1.2 * NUM_MB
    files = [tmp_path / f"{write.__name__}.pt" for write in WRITERS]
    for write, file in zip(WRITERS, files, strict=True):
        write(module, file)
    write_old(small, tmp_path / "small.pt")
    command = [sys.executable, "-c", CHILD, tmp_path / "small.pt", *files]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    _, *taken = map(int, found.stdout.split())
    assert len(taken) == len(files)
    assert max(taken) < 5 * weights_mb, taken
