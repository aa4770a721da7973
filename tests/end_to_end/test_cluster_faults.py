"""Generation on a cluster that loses a node: the same bytes, and no word of Ray's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.records.log import LOG_FILE
from tests.support.command_line import start, succeed
from tests.support.workspace import Workspace, tars

pytestmark = [pytest.mark.ray, pytest.mark.slow]
MANY = ("generate.num_samples=2000", "generate.samples_per_shard=50")
NUM_MANY = 40


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without processors."""
    from ray.cluster_utils import Cluster

    quick = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500}
    args = {"num_cpus": 0, "include_dashboard": False, "_system_config": quick}
    made = Cluster(initialize_head=True, head_node_args=args)
    try:
        yield made
    finally:
        made.shutdown()


def test_generate_on_a_cluster_that_loses_a_rendering_node_gives_the_same_bytes(
    workspace: Workspace, cluster: Any
) -> None:
    succeed("generate", workspace.config, *MANY, f"paths.store={workspace.folder / 'straight'}")
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    raylet = nodes[1].all_processes["raylet"][0].process.pid
    store = workspace.folder / "store"
    on_ray = ("generate", workspace.config, *MANY, "ray.render_workers=2")
    with start(*on_ray, RAY_ADDRESS=cluster.address) as run:
        run.wait_until(lambda: len(tars(store)) >= 4 and is_rendering(raylet))
        cluster.remove_node(nodes[1], allow_graceful=False)
        num_then = len(tars(store))
        code, out, errors = run.result()
        assert code == 0, errors
    assert "raylet" not in (out + errors).lower()
    assert "Raylet is terminated" in (workspace.folder / "runs" / "tiny" / LOG_FILE).read_text()
    assert num_then < 2 * NUM_MANY, "nothing was left to render"
    assert tars(store) == tars(workspace.folder / "straight")


def is_rendering(raylet: int) -> bool:
    """Whether a worker of this node has a shard in hand."""
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            name = line.read_bytes()
            if not name.startswith(b"ray::") or b"render" not in name:
                continue
            parent = (line.parent / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if int(parent) == raylet:
            return True
    return False
