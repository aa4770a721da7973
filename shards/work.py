"""Which shard to make next, beside whatever other runs make of the same folder; and the manifest
rows of those that are done.

Neighbours: `claims.py` keeps runs apart; `generate` and `real` make what this hands out.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shards.claims import Claims
from shards.manifest import ManifestFollower, ManifestWriter, ShardInfo
from shards.schema import Schema
from shards.storage import Folder

_LOOK_S = 10.0
"""Seconds in which no other run starts, renders and ends unseen."""
_LISTING_SHARE = 0.05
_MAX_UNLISTED_S = 1.0
"""Manifests take this share of the time, but wait no longer: what a killed run has not listed is
rendered again."""


@dataclass(frozen=True)
class Place:
    """A set of shards: its folder, its columns, and which piece of work a shard of it is."""

    folder: Folder
    schema: Schema
    index_of: Callable[[ShardInfo], int]


class Work:
    """Pieces of work, by index the sets that lack a shard: `missing`. `next` hands out one at a
    time, `finish` takes it back done. `places` are the sets by name.
    """

    def __init__(
        self, places: Mapping[str, Place], claims: Claims, missing: Mapping[int, tuple[str, ...]]
    ) -> None:
        self._places = places
        self._claims = claims
        # A dict would walk over all that it no longer holds each time it is asked for its first.
        self._todo = OrderedDict(missing)
        self._had_others = True  # perhaps, since `missing` was made
        self._looked_at = time.monotonic()
        self._manifests = {
            name: ManifestWriter(place.folder, place.schema) for name, place in places.items()
        }
        self._followers = {name: ManifestFollower(place.folder) for name, place in places.items()}
        self._unlisted: list[int] = []
        self._listed_at = time.monotonic()
        self._listing_s = 0.0

    def __len__(self) -> int:
        """Shards not handed out yet."""
        return len(self._todo)

    def next(self) -> tuple[int, tuple[str, ...]] | None:
        """An index and the sets that lack its shard; None if other runs have all there are."""
        runs = self._claims.list_others()
        is_stale = self._had_others or time.monotonic() - self._looked_at > _LOOK_S
        if runs or is_stale:  # what others have finished is in the manifest by now
            self._drop_finished()
        self._had_others = bool(runs)
        others = {index for claimed in runs.values() for index in claimed}
        refused = set[int]()
        while (index := self._first_but(others | refused)) is not None:
            refused.add(index)
            if not self._claims.take(index):
                continue
            if runs:  # one may have claimed, made and listed it between our looks at the two
                self._drop_finished()
            if index in self._todo:
                return index, self._todo.pop(index)
            self._claims.release([index])
        self.flush()  # others may wait for what is claimed here and done
        return None

    def _first_but(self, others: set[int]) -> int | None:
        return next((index for index in self._todo if index not in others), None)

    def finish(self, index: int, shards: dict[str, ShardInfo]) -> None:
        """Take rows for the manifest; they are written at once where that costs little time."""
        for name, shard in shards.items():
            self._manifests[name].add(shard)
        self._unlisted.append(index)
        pause = min(self._listing_s / _LISTING_SHARE, _MAX_UNLISTED_S)
        if time.monotonic() - self._listed_at > pause:
            self.flush()

    def flush(self) -> None:
        """Write the rows so far, then give up the claims of their shards."""
        if not self._unlisted:
            return
        began_at = time.monotonic()
        for manifest in self._manifests.values():
            manifest.flush()
        self._claims.release(self._unlisted)
        self._unlisted = []
        self._listed_at = time.monotonic()
        self._listing_s = self._listed_at - began_at

    def _drop_finished(self) -> None:
        """Forget what the manifest lists by now and is whole: what is damaged is listed, too."""
        for name, follower in self._followers.items():
            place = self._places[name]
            for shard in follower.look():
                index = place.index_of(shard)
                lacking = self._todo.get(index, ())
                if name not in lacking or place.folder.size(shard.name) != shard.num_bytes:
                    continue
                if lacking := tuple(other for other in lacking if other != name):
                    self._todo[index] = lacking
                else:
                    del self._todo[index]
        self._looked_at = time.monotonic()
