"""Packs the missing shards of several splits, on Ray or in this process, beside other runs.

Neighbours: `pack.py` makes one shard, `shards/work.py` hands them out, `stage.py` calls this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from pipeline.cluster.tasks import Listed, Places, run_tasks, spare_retries
from pipeline.config.ray import RayConfig
from pipeline.real.listing import Parts, list_here, num_parts, tables_of
from pipeline.real.pack import PackedShard, Packing, Unreadable, pack_shard, read_unreadable
from pipeline.real.rows import count_rows
from pipeline.real.sources.location import is_remote
from pipeline.real.sources.source import Findings, Source
from pipeline.terminal.progress import progress_bar
from shards.claims import Claims
from shards.errors import UserError
from shards.manifest import ShardInfo, read_manifest
from shards.storage import StorageError
from shards.work import Place, Work

_FEW_IMAGES = 2000
"""Packed here whatever is set: Ray takes longer to start."""
_POLL_S = 1.0


@dataclass(frozen=True)
class Progress:
    """A split to be packed, against what is there: row counts by the index of each shard."""

    packing: Packing
    num_rows: int
    missing: tuple[int, ...]
    unreadable: dict[int, list[Unreadable]]

    @property
    def num_shards(self) -> int:
        """Of the split, also if nothing of one can be read."""
        return -(-self.num_rows // self.packing.recipe.samples_per_shard)

    def rows_in(self, index: int) -> int:
        """Rows of a shard."""
        size = self.packing.recipe.samples_per_shard
        return min(size, self.num_rows - index * size)


def look(packing: Packing) -> Progress:
    """What is there of a split whose rows are."""
    num_rows = count_rows(packing.folder, packing.split) or 0
    notes = read_unreadable(packing.folder, packing.split)
    place = packing.folder / packing.split
    manifest = read_manifest(place)
    sizes = place.list_files() if manifest is not None else {}
    size = packing.recipe.samples_per_shard
    held = {
        shard.start_index // size: shard.num_samples
        for shard in (manifest.shards if manifest is not None else ())
        if sizes.get(shard.name) == shard.num_bytes
    }
    found = Progress(packing, num_rows, (), notes)
    missing = tuple(
        index
        for index in range(found.num_shards)
        if held.get(index, 0) + len(notes.get(index, ())) != found.rows_in(index)
    )
    return Progress(packing, num_rows, missing, notes)


def fill(claims: Claims, packings: Sequence[Packing], ray_config: RayConfig) -> list[Unreadable]:
    """Pack what is missing of splits in the folder of `claims`; returns what cannot be read, in the
    order of rows.

    Raises:
        UserError: if the source or the store cannot be used any more.
    """
    with progress_bar("images") as bar:
        splits = [look(packing) for packing in packings]
        jobs = _Jobs(splits)
        work = Work(jobs.places, claims, jobs.missing)
        tasks = {
            split.packing.split: bar.add_task(
                f"real {split.packing.split}",
                total=split.num_rows,
                completed=split.num_rows - sum(map(split.rows_in, split.missing)),
                note="",
            )
            for split in splits
            if split.num_rows
        }
        unreadable = {
            (split.packing.split, index): notes
            for split in splits
            for index, notes in split.unreadable.items()
        }

        def watch(in_hand: int) -> None:
            is_idle = len(work) > 0 and not in_hand
            for name, task in tasks.items():
                count = sum(len(notes) for (split, _), notes in unreadable.items() if split == name)
                bad = f"{count:,} unreadable" if count else ""
                bar.update(task, note="waiting for another run on these" if is_idle else bad)

        num_left = sum(split.rows_in(index) for split in splits for index in split.missing)
        is_here = ray_config.pack_workers == 0 or num_left <= _FEW_IMAGES
        pack = _pack_here if is_here else _pack_on_ray
        try:
            with closing(pack(jobs, work, ray_config, watch)) as all_packed:
                for packed in all_packed:
                    index = jobs.number(packed.split, packed.index)
                    rows = {} if packed.shard is None else {packed.split: packed.shard}
                    work.finish(index, rows)
                    if packed.unreadable:
                        unreadable[packed.split, packed.index] = list(packed.unreadable)
                    bar.advance(tasks[packed.split], packed.num_rows)
        finally:
            work.flush()
        for split in splits:
            if split.num_rows:
                bar.update(tasks[split.packing.split], completed=split.num_rows)
    found = [read_unreadable(packing.folder, packing.split) for packing in packings]
    return [one for notes in found for index in sorted(notes) for one in notes[index]]


class _Jobs:
    """Shards of all splits under one numbering."""

    def __init__(self, splits: Sequence[Progress]) -> None:
        self._splits = {split.packing.split: split for split in splits}
        self._starts: dict[str, int] = {}
        start = 0
        for name, split in self._splits.items():
            self._starts[name] = start
            start += split.num_shards

    def number(self, split: str, index: int) -> int:
        return self._starts[split] + index

    @property
    def missing(self) -> dict[int, tuple[str, ...]]:
        return {
            self.number(name, index): (name,)
            for name, split in self._splits.items()
            for index in split.missing
        }

    @property
    def places(self) -> Mapping[str, Place]:
        def place(name: str, packing: Packing) -> Place:
            def index_of(shard: ShardInfo) -> int:
                return self.number(name, shard.start_index // packing.recipe.samples_per_shard)

            return Place(packing.folder / name, packing.recipe.schema, index_of)

        return {name: place(name, split.packing) for name, split in self._splits.items()}

    def arguments(self, item: tuple[int, tuple[str, ...]]) -> tuple[Packing, int]:
        number, (name,) = item
        return self._splits[name].packing, number - self._starts[name]


Watch = Callable[[int], None]


def _pack_here(
    jobs: _Jobs, work: Work, ray_config: RayConfig, watch: Watch
) -> Generator[PackedShard]:
    while len(work):
        item = work.next()
        watch(int(item is not None))
        if item is None:
            time.sleep(_POLL_S)
            continue
        packing, index = jobs.arguments(item)
        try:
            packed = pack_shard(packing, index)
        except OSError as error:
            raise _unusable(packing, index, error) from None
        yield packed
    watch(0)


def _pack_on_ray(
    jobs: _Jobs, work: Work, ray_config: RayConfig, watch: Watch
) -> Generator[PackedShard]:
    places = Places(ray_config, "pack", ray_config.pack_workers)
    with run_tasks(
        _pack_task, work, jobs.arguments, places, retry_on=[OSError], watch=watch
    ) as ended:
        for item, answer in ended:
            packing, index = jobs.arguments(item)
            what = f"shard {index} of {packing.folder / packing.split}"
            yield answer.get_made(what, partial(_unusable, packing, index))


def _pack_task(packing: Packing, index: int) -> PackedShard:
    """Runs in a Ray worker."""
    try:
        return pack_shard(packing, index)
    except OSError as error:
        raise spare_retries(error, partial(_unusable, packing, index)) from None


def _unusable(packing: Packing, index: int, error: object) -> UserError:
    return UserError(
        f"{packing.folder / packing.split}: shard {index} cannot be packed ({error}); see to the "
        "images' place and to the store's, and run it again: what is packed stays"
    )


def list_on_workers(source: Source, ray_config: RayConfig) -> Parts:
    """Parts of a source, in their order; of several remote files each by a worker."""
    is_far = len(source.files) > 1 and is_remote(source.files[0].url)
    if ray_config.pack_workers == 0 or not is_far:
        return list_here(source)
    return _list_on_ray(source, ray_config)


def _list_on_ray(source: Source, ray_config: RayConfig) -> Parts:
    places = Places(ray_config, "pack", ray_config.pack_workers)
    parts = Listed(range(num_parts(source)))
    waiting: dict[int, tuple[pa.Table, Findings]] = {}
    turn = 0
    with run_tasks(
        _list_task, parts, lambda part: (source, part), places, retry_on=[StorageError]
    ) as ended:
        for part, answer in ended:
            waiting[part] = answer.get()
            while turn in waiting:
                table, findings = waiting.pop(turn)
                yield [table], findings
                turn += 1


def _list_task(source: Source, part: int) -> tuple[pa.Table, Findings]:
    """Runs in a Ray worker."""
    findings = Findings()
    return pa.concat_tables(tables_of(source.list_part(part, findings))), findings
