"""Tasks of a cluster that loses a node, without Ray."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cluster import tasks
from pipeline.cluster.tasks import InFlight

Item = tuple[int, tuple[str, ...]]
SHARDS: list[Item] = [(index, ("images",)) for index in range(3)]


class FakeRay:
    """Nodes that die and tasks that end when told to."""

    def __init__(self) -> None:
        self.alive = [True, True]
        self.over: set[str] = set()
        self.cancelled: list[str] = []
        self.submitted: list[str] = []

    def submit(self, item: Item) -> str:
        self.submitted.append(f"{item[0]}.{len(self.submitted)}")
        return self.submitted[-1]

    def wait(self, tasks: list[str], **_: Any) -> tuple[list[str], list[str]]:
        ended = [task for task in tasks if task in self.over]
        return ended, [task for task in tasks if task not in ended]

    def module(self) -> Any:
        return SimpleNamespace(
            wait=self.wait,
            nodes=lambda: [{"Alive": alive} for alive in self.alive],
            cancel=self.cancelled.append,
        )


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setattr(tasks, "LOOK_S", -1)  # at every call
    monkeypatch.setitem(sys.modules, "ray", fake.module())
    return fake


def start(ray: FakeRay) -> InFlight[Item]:
    tasks = InFlight(ray.submit)
    for item in SHARDS:
        tasks.add(item)
    return tasks


def test_in_flight_after_a_node_died_gives_out_again_what_has_not_ended(ray: FakeRay) -> None:
    tasks = start(ray)
    ray.over.add("0.0")
    assert list(tasks.ended()) == [("0.0", SHARDS[0])]
    ray.alive[1] = False
    assert list(tasks.ended()) == []
    assert ray.submitted[3:] == ["1.3", "2.4"]
    assert len(tasks) == 2, "shards, not tasks"
    list(tasks.ended())
    assert len(ray.submitted) == 5, "once for each death"


def test_in_flight_yields_a_shard_once_and_cancels_its_other_task_unless_that_has_ended(
    ray: FakeRay,
) -> None:
    tasks = start(ray)
    ray.alive[1] = False
    list(tasks.ended())
    ray.over.update({"0.0", "0.3", "1.4"})
    assert list(tasks.ended()) == [("0.0", SHARDS[0]), ("1.4", SHARDS[1])]
    assert ray.cancelled == ["1.1"]
    assert len(tasks) == 1


def test_in_flight_node_dead_before_is_no_reason(ray: FakeRay) -> None:
    ray.alive[0] = False
    tasks = start(ray)
    list(tasks.ended())
    assert len(ray.submitted) == 3


def test_in_flight_cancels_all_that_has_not_ended(ray: FakeRay) -> None:
    tasks = start(ray)
    ray.over.add("1.1")  # to cancel what has just ended may abort the process
    tasks.cancel()
    assert ray.cancelled == ["0.0", "2.2"]


def test_lost_node_is_said_in_one_line(ray: FakeRay, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = start(ray)
    ray.alive[0] = False
    list(tasks.ended())
    lines = [line for line in capsys.readouterr().err.splitlines() if "lost" in line]
    assert lines == ["cluster   lost 1 node; its work is given out again, 3 tasks"]
