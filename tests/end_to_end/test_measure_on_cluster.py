"""Measuring on a cluster whose head offers no processor: the files of one machine, made by workers.

The student is trained once, and measured here and there.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from pipeline.cluster import connection
from pipeline.config.ray import RayConfig
from tests.support.command_line import succeed
from tests.support.ray_session import own_session
from tests.support.stored_pools import contents
from tests.support.workspace import make_workspace

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray Train's, of its own ways
]
NUM_TRAIN = 2100
"""More than are packed in the driver whatever is set."""
HERE = ("ray.pack_workers=0", "ray.eval_workers=0")
THERE = ("ray.pack_workers=2", "ray.eval_workers=2")
RESULTS = (
    "results.json",
    *(f"eval/{name}.json" for name in ("curves", "neighbours", "domains", "confusion")),
)
TASKS = {"_pack_task", "_read_labels", "_make_blocks", "_fit", "_search", "_measure"}
TRAINER = "RayTrainWorker"


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without processors and two nodes with one each, which commands in this process join.
    Its dashboard has the table of tasks.
    """
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True})
    try:
        for _ in range(2):
            made.add_node(num_cpus=1)
        with (
            mock.patch.dict(os.environ, RAY_ADDRESS=made.address),
            own_session(RayConfig()),
            mock.patch.object(connection, "disconnect"),
        ):
            yield made
    finally:
        made.shutdown()


def save_images(folder: Path, count: int) -> Path:
    """Noise around a colour for each of three classes, in PNGs of 16 px."""
    generator = np.random.default_rng(count)
    for index in range(count):
        colour = np.roll([110, 128, 146], index % 3)
        pixels = np.clip(generator.normal(colour, 40, (16, 16, 3)), 0, 255).astype(np.uint8)
        path = folder / f"class{index % 3}" / f"{index:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def nodes_of_work(cluster: Any) -> dict[str, set[str]]:
    """Nodes on which each of `TASKS`, and each trainer, ran; Ray has tasks of its own."""
    from ray.util.state import list_actors, list_tasks

    found: dict[str, set[str]] = {}
    for task in list_tasks(address=cluster.address, limit=10_000):
        if task.name in TASKS:
            found.setdefault(task.name, set()).add(task.node_id)
    for actor in list_actors(address=cluster.address, limit=10_000):
        if actor.class_name == TRAINER:
            found.setdefault(TRAINER, set()).add(actor.node_id)
    return found


def test_real_eval_and_embed_on_a_cluster_leave_the_files_of_one_machine(
    tmp_path: Path, cluster: Any
) -> None:
    config, here, there = make_workspace(tmp_path).config, tmp_path / "here", tmp_path / "there"
    train = save_images(tmp_path / "train", NUM_TRAIN)
    test = save_images(tmp_path / "test", 90)
    given = (
        "real.source=folder",
        f"real.train={train}",
        f"real.test={test}",
        "train.epochs=1",
        "eval.probes=[linear, knn, linear_sgd]",
        "eval.sgd_epochs=2",
        "eval.seeds=[0]",
        "eval.few_labels=[]",
        "eval.domain_samples=100",
        "eval.baselines=false",
    )

    def measure(place: Path, stages: tuple[str, ...], where: tuple[str, ...]) -> None:
        words = (*given, *where, f"paths.store={place / 'store'}", f"paths.runs={place / 'runs'}")
        for stage in stages:
            succeed(stage, config, *words)
        succeed("embed", config, test, *words, "--out", place / "embedded.parquet")

    with mock.patch.dict(os.environ):
        del os.environ["RAY_ADDRESS"]
        measure(here, ("real", "generate", "train", "eval"), HERE)
    for made in ("store/teacher", "runs/tiny/generate", "runs/tiny/train"):
        shutil.copytree(here / made, there / made)
    for record in there.glob("runs/*/*/record.json"):
        record.write_text(record.read_text().replace(str(here), str(there)))
    measure(there, ("real", "eval"), THERE)

    assert contents(there / "store") == contents(here / "store")
    blocks = contents(here / "runs", "representations/**/*.npy")
    assert blocks
    assert contents(there / "runs", "representations/**/*.npy") == blocks
    for name in (*(f"runs/tiny/{result}" for result in RESULTS), "embedded.parquet"):
        assert (there / name).read_bytes() == (here / name).read_bytes(), name

    deadline = time.monotonic() + 20  # the tables are filled a little later
    while (nodes := nodes_of_work(cluster)).keys() < {*TASKS, TRAINER}:
        assert time.monotonic() < deadline, nodes
        time.sleep(1)
    assert cluster.head_node.node_id not in set().union(*nodes.values())
