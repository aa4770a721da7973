"""Shards rendered one after the other: the writer is never waited for, and never left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.generate import render
from pipeline.generate.batch import render_batch
from pipeline.generate.render import ShardRenderer, render_shard
from shards.manifest import shard_name
from shards.storage import Folder
from shards.writer import write_shard
from tests.support.tiny_shards import SCHEMAS, pool_recipe, random_generator

RECIPE = pool_recipe()


def tars(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.tar")}


def replace_writing(monkeypatch: pytest.MonkeyPatch, before_publishing: Any) -> None:
    """Let something happen between the last sample of a shard and its publication."""
    original = render.writing_shard

    @contextmanager
    def writing(*arguments: Any) -> Iterator[Any]:
        with original(*arguments) as pending:
            yield pending
            before_publishing()

    monkeypatch.setattr(render, "writing_shard", writing)


def test_renderer_leaves_the_same_bytes_as_shards_rendered_alone(tmp_path: Path) -> None:
    with ShardRenderer(random_generator(), RECIPE, Folder.at(tmp_path / "together")) as renderer:
        started = [renderer.start(SCHEMAS, index) for index in (2, 0, 1)]
        assert [shard.result().index for shard in started] == [2, 0, 1]
    for index in range(3):
        render_shard(random_generator(), RECIPE, Folder.at(tmp_path / "alone"), SCHEMAS, index)
    assert tars(tmp_path / "together") == tars(tmp_path / "alone")


def test_renderer_leaves_the_bytes_of_batches_rendered_and_written_one_by_one(
    tmp_path: Path,
) -> None:
    """What is drawn, copied and written beside rendering changes nothing."""
    generator, plain = random_generator(), Folder.at(tmp_path / "plain")
    batches = [np.arange(8, 11), np.arange(11, 14), np.arange(14, 16)]
    rendered = [render_batch(generator, RECIPE, SCHEMAS, indices) for indices in batches]
    for name, schema in SCHEMAS.items():
        columns = [batch[name] for batch in rendered]
        write_shard(plain / name, shard_name(1), schema, 8, columns)
    render_shard(generator, RECIPE, Folder.at(tmp_path / "found"), SCHEMAS, 1)
    assert tars(tmp_path / "found") == tars(tmp_path / "plain")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_renderer_on_a_gpu_leaves_the_same_bytes_every_time(tmp_path: Path) -> None:
    generator = random_generator().to("cuda")
    for name, shards in {"forwards": (0, 1, 2), "backwards": (2, 1, 0)}.items():
        with ShardRenderer(generator, RECIPE, Folder.at(tmp_path / name)) as renderer:
            for shard in [renderer.start(SCHEMAS, index) for index in shards]:
                shard.result()
    assert tars(tmp_path / "forwards") == tars(tmp_path / "backwards")


def test_renderer_renders_the_next_shard_while_one_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_publish = threading.Event()
    replace_writing(monkeypatch, lambda: may_publish.wait(60))
    recipe = pool_recipe(render_batch=RECIPE.samples_per_shard)
    with ShardRenderer(random_generator(), recipe, Folder.at(tmp_path)) as renderer:
        first = renderer.start(SCHEMAS, 0)
        second = renderer.start(SCHEMAS, 1)
        assert not first.written.done()
        assert tars(tmp_path) == {}
        may_publish.set()
        results = [first.result(), second.result()]
    assert len(tars(tmp_path)) == 2 * len(SCHEMAS)
    assert all(result.rendering_s > 0 for result in results)


def test_renderer_whose_writer_fails_raises_its_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError(28, "no room", "somewhere")

    replace_writing(monkeypatch, fail)
    with ShardRenderer(random_generator(), RECIPE, Folder.at(tmp_path)) as renderer:
        started = renderer.start(SCHEMAS, 0)
        with pytest.raises(OSError, match="no room"):
            started.result()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_renderer_does_not_wait_for_a_writer_that_died_early(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.write_text("a file, not a folder")
    recipe = pool_recipe(render_batch=1)  # more batches than may wait
    with (
        ShardRenderer(random_generator(), recipe, Folder.at(place)) as renderer,
        pytest.raises(OSError, match=str(place)),
    ):
        renderer.start(SCHEMAS, 0)


def test_renderer_goes_on_after_a_shard_that_could_not_be_rendered(tmp_path: Path) -> None:
    generator = random_generator()
    with ShardRenderer(generator, RECIPE, Folder.at(tmp_path / "pool")) as renderer:
        forward = generator.forward
        generator.forward = lambda *_, **__: 1 / 0  # type: ignore[method-assign]
        with pytest.raises(ZeroDivisionError):
            renderer.start(SCHEMAS, 0)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        generator.forward = forward  # type: ignore[method-assign]
        renderer.start(SCHEMAS, 0).result()
    render_shard(random_generator(), RECIPE, Folder.at(tmp_path / "alone"), SCHEMAS, 0)
    assert tars(tmp_path / "pool") == tars(tmp_path / "alone")
