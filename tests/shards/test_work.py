"""Shards of one plan, handed out among runs that render the same pool at once."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.generate.plan import Plan, PoolRecipe, ShardSet
from pipeline.generate.stage import work_of
from shards.claims import Claims
from shards.manifest import ManifestWriter, ShardInfo, shard_name
from shards.pool import IMAGES
from shards.schema import Schema
from shards.storage import Folder
from shards.work import Work
from shards.writer import write_shard
from tests.support.shard_sets import INDEX_SCHEMA, of_others

FEATURES = "features-0"
PER_SHARD = 2
NUM_VERY_MANY = 1_000_000


def make_plan(pool: Folder, num_shards: int = 4) -> Plan:
    """A request for images and one set of features, all of it missing but what the pool lists."""
    recipe = PoolRecipe(
        generator_sha256="0" * 64,
        architecture={},
        seed=0,
        truncation_psi=1.0,
        truncation_cutoff=None,
        noise="random",
        samples_per_shard=PER_SHARD,
        render_batch=PER_SHARD,
    )
    sets = tuple(ShardSet(name, INDEX_SCHEMA, {}) for name in (IMAGES, FEATURES))
    return Plan(recipe, pool, sets, num_shards, ()).refreshed()


def render(pool: Folder, set_name: str, index: int, schema: Schema = INDEX_SCHEMA) -> ShardInfo:
    """A shard's file; nothing lists it yet."""
    start = index * PER_SHARD
    arrays = {"index": np.arange(start, start + PER_SHARD)}
    return write_shard(pool / set_name, shard_name(index), schema, start, [arrays])


def render_all(plan: Plan, index: int, names: tuple[str, ...]) -> dict[str, ShardInfo]:
    return {name: render(plan.folder, name, index) for name in names}


def drain(work: Work, plan: Plan) -> list[tuple[int, tuple[str, ...]]]:
    """Render all that is handed out."""
    done = []
    while (item := work.next()) is not None:
        work.finish(item[0], render_all(plan, *item))
        done.append(item)
    work.flush()
    return done


BOTH = (IMAGES, FEATURES)


def test_work_hands_out_all_that_is_missing_once(pool: Folder) -> None:
    plan = make_plan(pool)
    with Claims(pool) as claims:
        work = work_of(plan, claims)
        assert len(work) == 4
        assert drain(work, plan) == [(index, BOTH) for index in range(4)]
        assert len(work) == 0
    assert plan.refreshed().missing == {}


def test_work_hands_out_only_the_sets_that_are_missing(local_pool: Folder) -> None:
    writer = ManifestWriter(local_pool / IMAGES, INDEX_SCHEMA)
    for index in (0, 2):
        writer.add(render(local_pool, IMAGES, index))
    writer.flush()
    plan = make_plan(local_pool)
    with Claims(local_pool) as claims:
        found = drain(work_of(plan, claims), plan)
    assert found == [(0, (FEATURES,)), (1, BOTH), (2, (FEATURES,)), (3, BOTH)]


def test_work_of_two_runs_is_shared_between_them(pool: Folder) -> None:
    plan = make_plan(pool, num_shards=6)
    done: list[list[int]] = [[], []]
    with Claims(pool) as first, Claims(pool) as second:
        works = work_of(plan, first), work_of(plan, second)
        while any(map(len, works)):
            items = [work.next() for work in works]
            for work, item, mine in zip(works, items, done, strict=True):
                if item is not None:
                    work.finish(item[0], render_all(plan, *item))
                    mine.append(item[0])
        for work in works:
            work.flush()
    assert sorted(done[0] + done[1]) == list(range(6))
    assert len(done[0]) == len(done[1]) == 3
    assert plan.refreshed().missing == {}


def test_work_drops_what_another_run_finished(pool: Folder) -> None:
    plan = make_plan(pool)
    with Claims(pool) as claims:
        mine = work_of(plan, claims)
        with Claims(pool) as others:
            theirs = work_of(plan, others)
            item = theirs.next()
            assert item == (0, BOTH)
            assert mine.next() == (1, BOTH)
            theirs.finish(0, render_all(plan, 0, BOTH))
            theirs.flush()
        assert [item for item, _ in drain(mine, plan)] == [2, 3]
        assert len(mine) == 0


def test_work_drops_what_a_run_finished_that_was_gone_before_it_began(local_pool: Folder) -> None:
    plan = make_plan(local_pool)
    with Claims(local_pool) as others:
        drain(work_of(plan, others, {0: BOTH, 1: BOTH}), plan)
    with Claims(local_pool) as claims:
        assert [item for item, _ in drain(work_of(plan, claims), plan)] == [2, 3]


def test_work_waits_for_what_another_run_is_rendering_and_takes_it_when_that_dies(
    pool: Folder,
) -> None:
    plan = make_plan(pool, num_shards=1)
    with Claims(pool) as claims:
        work = work_of(plan, claims)
        with Claims(pool) as others:
            assert others.take(0)
            assert work.next() is None
            assert len(work) == 1
        assert work.next() == (0, BOTH)


def test_work_gives_its_claims_up_when_the_manifest_lists_the_shards(local_pool: Folder) -> None:
    plan = make_plan(local_pool)
    with Claims(local_pool) as claims, Claims(local_pool) as others:
        work = work_of(plan, claims)
        item = work.next()
        assert item is not None
        work.finish(item[0], render_all(plan, *item))
        assert of_others(others) == {0} or 0 not in plan.refreshed().missing
        work.flush()
        assert of_others(others) == set()
        assert 0 not in plan.refreshed().missing


def test_work_hands_out_a_listed_shard_whose_file_is_gone_or_cut_off(pool: Folder) -> None:
    writer = ManifestWriter(pool / IMAGES, INDEX_SCHEMA)
    for index in range(3):
        writer.add(render(pool, IMAGES, index))
    writer.flush()
    (pool / IMAGES).remove(shard_name(0))
    (pool / IMAGES).write(shard_name(1), b"cut off")
    plan = make_plan(pool, num_shards=3)
    with Claims(pool) as claims:
        assert drain(work_of(plan, claims), plan) == [(0, BOTH), (1, BOTH), (2, (FEATURES,))]


def test_work_drops_a_damaged_shard_once_another_run_has_mended_it(local_pool: Folder) -> None:
    with Claims(local_pool) as claims:
        drain(work_of(make_plan(local_pool, num_shards=2), claims), make_plan(local_pool))
    (local_pool / IMAGES).remove(shard_name(1))
    plan = make_plan(local_pool, num_shards=3)
    assert plan.missing == {1: (IMAGES,), 2: BOTH}
    with Claims(local_pool) as claims, Claims(local_pool) as others:
        mine, theirs = work_of(plan, claims), work_of(plan, others)
        item = theirs.next()
        assert item == (1, (IMAGES,))
        theirs.finish(1, render_all(plan, *item))
        theirs.flush()
        assert mine.next() == (2, BOTH)
        assert len(mine) == 0


class Late(Claims):
    """Decides on a shard, and another run has rendered and listed it before the claim is out."""

    def __init__(self, pool: Folder, others: Work, plan: Plan) -> None:
        super().__init__(pool)
        self._others = others
        self._plan = plan

    def take(self, index: int) -> bool:
        if index == 0:
            item = self._others.next()
            assert item == (0, BOTH)
            self._others.finish(0, render_all(self._plan, *item))
            self._others.flush()
        return super().take(index)


def test_work_drops_what_another_run_finished_just_before_it_was_claimed(pool: Folder) -> None:
    plan = make_plan(pool)
    with Claims(pool) as others, Late(pool, work_of(plan, others), plan) as claims:
        work = work_of(plan, claims)
        assert work.next() == (1, BOTH)
        assert len(work) == 2
        assert of_others(others) == {1}


class Alone(Claims):
    """Nobody else is there, and nothing is written."""

    def take(self, index: int) -> bool:
        return True

    def list_others(self) -> dict[str, list[int]]:
        return {}


@pytest.mark.slow
@pytest.mark.timeout(60)  # twice that when each shard looked through all that were handed out
def test_work_of_very_many_shards_is_handed_out(local_pool: Folder) -> None:
    missing = dict.fromkeys(range(NUM_VERY_MANY), BOTH)
    work = work_of(make_plan(local_pool), Alone(local_pool), missing)
    handed_out = 0
    while work.next() is not None:
        handed_out += 1
    assert handed_out == NUM_VERY_MANY
