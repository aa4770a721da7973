"""Every process lets OpenMP's threads spin but briefly, unless the user says otherwise."""

from __future__ import annotations

import sys

import pytest

from pipeline.cluster.openmp import limit_spinning, spin_settings
from tests.support.command_line import run_process

NAMES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
SAY = "import os, sys; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
ASK_A_WORKER = """
import os
import pipeline.__main__
from pipeline.cluster import connection
from pipeline.config.ray import RayConfig

connection.connect(RayConfig(render_workers=1, object_store_mb=100))
import ray

task = ray.remote(lambda: os.environ.get("GOMP_SPINCOUNT")).options(num_cpus=1)
print(ray.get(task.remote()), True)
connection.disconnect()
"""


def ask(code: str, **variables: str) -> list[str]:
    """The turns, "None" without any, and whether torch was imported, in a process of its own."""
    done = run_process([sys.executable, "-c", code], **variables)
    assert done.code == 0, done.errors
    return done.out.split()


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_limit_spinning_sets_the_turns_where_nothing_is_said() -> None:
    assert spin_settings() == {}
    limit_spinning()
    assert spin_settings() == {"GOMP_SPINCOUNT": "1000"}


@pytest.mark.parametrize(
    ("name", "value"), [(NAMES[1], "active"), (NAMES[0], "1"), (NAMES[2], "1")]
)
def test_limit_spinning_leaves_what_the_user_has_set(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    limit_spinning()
    assert spin_settings() == {name: value}


@pytest.mark.slow
@pytest.mark.parametrize("package", ["pipeline.__main__", "benchmarks"])
def test_entry_points_set_the_turns_before_torch_is_imported(package: str) -> None:
    code = f"import {package}; {SAY}"
    assert ask(code) == ["1000", "False"]
    assert ask(code, GOMP_SPINCOUNT="7") == ["7", "False"]
    assert ask(code, OMP_WAIT_POLICY="active") == ["None", "False"]


@pytest.mark.ray
@pytest.mark.slow
def test_workers_of_the_embedded_ray_have_the_turns() -> None:
    assert ask(ASK_A_WORKER) == ["1000", "True"]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray")
def test_workers_of_a_cluster_have_the_turns_of_the_command() -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    assert ask(ASK_A_WORKER, RAY_ADDRESS=address, GOMP_SPINCOUNT="7") == ["7", "True"]
