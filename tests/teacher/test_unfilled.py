"""Networks of shapes alone, and what reading a teacher does not import."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from pipeline.teacher.families import GENERATORS
from pipeline.teacher.unfilled import unfilled
from tests.support.command_line import run_process
from tests.support.tiny_teachers import TEACHERS, describe, fastgan, projected_gan
from tests.support.workspace import make_teacher

READ = """
import sys
from pathlib import Path
from pipeline.teacher.checkpoint import load_discriminator, load_generator
judged, *others = map(Path, sys.argv[1:])
load_discriminator(judged)
for folder in (judged, *others):
    load_generator(folder)
print([name for name in ("sympy", "torch._dynamo") if name in sys.modules])
"""
MORE = {"projected-gan": lambda: projected_gan(num_classes=3), "fastgan": fastgan}
FAMILIES = {name: build for name, build in (TEACHERS | MORE).items() if name != "own"}


@pytest.mark.parametrize("name", FAMILIES)
def test_unfilled_network_has_the_names_shapes_and_dtypes_of_one_that_is_drawn(name: str) -> None:
    arch = FAMILIES[name]().arch
    drawn = GENERATORS[type(arch)](arch).state_dict()
    before = torch.get_rng_state()
    with unfilled():
        found = GENERATORS[type(arch)](arch).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert list(found) == list(drawn)
    for key, value in drawn.items():
        assert (found[key].shape, found[key].dtype) == (value.shape, value.dtype), key


@pytest.mark.slow
def test_reading_teachers_of_all_families_imports_nothing_of_torch_compile(tmp_path: Path) -> None:
    make_teacher(tmp_path / "judged")
    for name, build in FAMILIES.items():
        describe(build(), tmp_path / name)
    folders = [tmp_path / "judged", *(tmp_path / name / "teacher" for name in FAMILIES)]
    done = run_process([sys.executable, "-c", READ, *map(str, folders)])
    assert done.code == 0, done.errors
    assert done.out.strip() == "[]"
