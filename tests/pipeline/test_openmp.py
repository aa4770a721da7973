"""Every process lets OpenMP's threads sleep while they wait, unless the user says otherwise."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline.openmp import wait_asleep, waiting
from tests.workspace import ROOT, environment

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
SAY = "import os, sys; print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
ASK_A_WORKER = """
import os
import pipeline.__main__
from pipeline import cluster
from pipeline.config import RayConfig

cluster.connect(RayConfig(render_workers=1, object_store_mb=100))
import ray

task = ray.remote(lambda: os.environ.get("OMP_WAIT_POLICY")).options(num_cpus=1)
print(ray.get(task.remote()), True)
cluster.disconnect()
"""


def ask(code: str, **variables: str) -> list[str]:
    """The policy, "None" without one, and whether torch was imported, in a process of its own."""
    kept = {name: value for name, value in environment().items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**kept, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_wait_asleep_sets_the_policy_where_nothing_is_said() -> None:
    assert waiting() == {}
    wait_asleep()
    assert waiting() == {"OMP_WAIT_POLICY": "passive"}


@pytest.mark.parametrize(("name", "value"), [(NAMES[0], "active"), *((n, "1") for n in NAMES[1:])])
def test_wait_asleep_leaves_what_the_user_has_set(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    wait_asleep()
    assert waiting() == {name: value}


@pytest.mark.parametrize("package", ["pipeline.__main__", "benchmarks"])
def test_entry_points_set_the_policy_before_torch_is_imported(package: str) -> None:
    code = f"import {package}; {SAY}"
    assert ask(code) == ["passive", "False"]
    assert ask(code, OMP_WAIT_POLICY="active") == ["active", "False"]


@pytest.mark.ray
@pytest.mark.slow
def test_workers_of_the_embedded_ray_have_the_policy() -> None:
    assert ask(ASK_A_WORKER) == ["passive", "True"]


@pytest.mark.ray
@pytest.mark.slow
def test_workers_of_a_cluster_have_the_policy_of_the_command() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        for variables, policy in (({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")):
            found = ask(ASK_A_WORKER, RAY_ADDRESS=cluster.address, **variables)
            assert found == [policy, "True"]
    finally:
        cluster.shutdown()
