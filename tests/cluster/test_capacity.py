"""Room for workers, on tables of nodes and on a stand-in for Ray."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cluster import capacity
from pipeline.cluster.capacity import Limit, choose_train_workers, count_places, needs, require
from pipeline.config.ray import RayConfig
from shards.errors import UserError


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Of a cluster; a test may add some."""
    found: list[dict[str, Any]] = []
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(nodes=lambda: found))
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    return found


def add(nodes: list[dict[str, Any]], **resources: float) -> None:
    nodes.append({"Alive": True, "Resources": resources})


@pytest.mark.parametrize(
    ("need", "places"),
    [
        ({"CPU": 1}, 12),
        ({"CPU": 0.5}, 24),
        ({"CPU": 3}, 3),  # two on the large node, one on the small one, none across both
        ({"CPU": 1, "GPU": 1}, 2),
        ({"CPU": 1, "GPU": 0.25}, 8),
        ({"CPU": 0.1, "GPU": 0.1}, 20),
        ({"CPU": 1, "render": 0.001}, 4),
        ({"CPU": 9}, 0),
        ({"TPU": 1}, 0),
    ],
)
def test_count_places_fits_whole_workers_into_nodes(need: dict[str, float], places: int) -> None:
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 4.0, "render": 1.0}]
    assert count_places(need, nodes) == places


def test_needs_name_the_nodes_of_the_work_on_a_cluster_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = RayConfig(nodes="marked", cpus_per_worker=2, gpus_per_worker=0.5)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert needs(config, "eval") == {"CPU": 2, "GPU": 0.5, "eval": 0.001}
    assert needs(RayConfig(), "eval") == {"CPU": 1}
    monkeypatch.delenv("RAY_ADDRESS")
    assert needs(config, "eval") == {"CPU": 2, "GPU": 0.5}  # the mark would never be there


def test_require_says_at_once_what_is_wanted_and_what_there_is(
    nodes: list[dict[str, Any]],
) -> None:
    add(nodes, CPU=4)
    nodes.append({"Alive": False, "Resources": {"CPU": 64.0}})
    require(RayConfig(), "train", 4)
    with pytest.raises(UserError) as raised:
        require(RayConfig(gpus_per_worker=1), "render")
    message = str(raised.value)
    assert "ray.render_workers: 1 worker with 1 CPU, 1 GPU each" in message
    assert "room for 0" in message
    assert "ray.grow_s" in message
    with pytest.raises(UserError, match="5 workers with 1 CPU each, but Ray has room for 4"):
        require(RayConfig(), "train", 5)


@pytest.mark.parametrize("comes", [True, False])
def test_require_waits_for_a_cluster_that_grows_and_takes_its_wish_back(
    nodes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, comes: bool
) -> None:
    wishes: list[Any] = []
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        if comes and clock[0] > 3:
            add(nodes, CPU=1, GPU=1)

    monkeypatch.setattr(capacity, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    util = SimpleNamespace(
        placement_group=lambda bundles: wishes.append(bundles) or bundles,
        remove_placement_group=wishes.remove,
    )
    monkeypatch.setitem(sys.modules, "ray.util", util)
    config = RayConfig(gpus_per_worker=1, grow_s=10)
    if comes:
        require(config, "train", 2)
        assert clock[0] < 10
    else:
        with pytest.raises(UserError, match="room for 0"):
            require(config, "train", 2)
        assert clock[0] >= 10
    assert wishes == []


def test_in_flight_on_a_cluster_is_what_was_asked_for_and_twice_that_on_an_embedded_ray(
    nodes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(nodes, CPU=64)
    assert Limit(RayConfig(), "render", 3).now == 3
    monkeypatch.delenv("RAY_ADDRESS")
    assert Limit(RayConfig(), "render", 3).now == 6


def test_in_flight_for_all_follows_a_cluster_that_grows(
    nodes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(capacity, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    bound = Limit(RayConfig(), "render", "all")
    assert bound.now == 1  # an autoscaler needs one that waits
    add(nodes, CPU=4)
    clock[0] += 5
    assert bound.now == 5


def test_choose_train_workers_for_all_takes_the_most_that_share_the_batch(
    nodes: list[dict[str, Any]],
) -> None:
    add(nodes, CPU=7)
    config = RayConfig(train_workers="all")
    assert choose_train_workers(config, [256, 512]) == 4
    assert choose_train_workers(config, [35]) == 7
    assert choose_train_workers(RayConfig(train_workers=3), [256]) == 3
