"""One function on many pieces of work, here or on Ray."""

from __future__ import annotations

import pickle

import pytest
import torch

from pipeline.config.ray import RayConfig
from pipeline.engine.workers import Shared, Workers
from shards.errors import UserError

HERE = Workers(RayConfig(), "cpu")


def double(number: int, shared: Shared[dict[str, int]], device: torch.device) -> tuple[int, str]:
    if number == 13:
        raise UserError("thirteen: no such piece; take another")
    return number * shared.get()["factor"], device.type


def check_every_piece_is_done(workers: Workers) -> None:
    shared = workers.share({"factor": 2})
    found = dict(workers.run(double, [(number, shared) for number in range(5)]))
    assert found == {number: (2 * number, "cpu") for number in range(5)}
    assert workers.run_one(double, 4, shared) == (8, "cpu")
    with pytest.raises(UserError, match=r"^thirteen"):
        workers.run_one(double, 13, shared)


def test_every_piece_is_done_in_this_process() -> None:
    check_every_piece_is_done(HERE)


@pytest.mark.ray
@pytest.mark.usefixtures("ray")
def test_every_piece_is_done_on_ray() -> None:
    check_every_piece_is_done(Workers(RayConfig(eval_workers=2), "cpu"))


def name_task(device: torch.device) -> str | None:
    from ray import get_runtime_context

    return get_runtime_context().get_task_name()


@pytest.mark.ray
@pytest.mark.usefixtures("ray")
def test_tasks_have_the_name_of_the_function_in_the_tables_of_ray() -> None:
    assert Workers(RayConfig(eval_workers=2), "cpu").run_one(name_task) == "name_task"


def test_no_pieces_are_no_work() -> None:
    assert list(Workers(RayConfig(eval_workers=2), "cpu").run(double, [])) == []


def test_a_value_shared_in_this_process_is_the_very_value() -> None:
    value = {"factor": 3}
    assert HERE.share(value).get() is value
    assert pickle.loads(pickle.dumps(HERE.share(value))).get() == value
