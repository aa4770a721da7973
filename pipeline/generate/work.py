"""Which shard to render next, beside whatever other runs render of the same pool; and the manifest
rows of those that are done.
"""

from __future__ import annotations

import time
from collections import OrderedDict

from pipeline.generate.plan import Plan
from shards.claims import Claims
from shards.manifest import ManifestFollower, ManifestWriter, ShardInfo

_LOOK_S = 10.0
"""Seconds in which no other run starts, renders and ends unseen."""
_LISTING_SHARE = 0.05
_MAX_UNLISTED_S = 1.0
"""Manifests take this share of the time, but wait no longer: what a killed run has not listed is
rendered again."""


class Work:
    """The shards that a plan lacks, or a part of them: `missing`, index -> sets. `next` hands out
    one at a time, `finish` takes it back done.
    """

    def __init__(
        self, plan: Plan, claims: Claims, missing: dict[int, tuple[str, ...]] | None = None
    ) -> None:
        self._plan = plan
        self._claims = claims
        # A dict would walk over all that it no longer holds each time it is asked for its first.
        self._todo = OrderedDict(plan.missing if missing is None else missing)
        self._had_others = True  # perhaps, since the plan was made
        self._looked_at = time.monotonic()
        self._manifests = {
            shards.name: ManifestWriter(plan.folder / shards.name, shards.schema)
            for shards in plan.sets
        }
        self._followers = {
            shards.name: ManifestFollower(plan.folder / shards.name) for shards in plan.sets
        }
        self._unlisted: list[int] = []
        self._listed_at = time.monotonic()
        self._listing_s = 0.0

    def __len__(self) -> int:
        """Shards not handed out yet."""
        return len(self._todo)

    def next(self) -> tuple[int, tuple[str, ...]] | None:
        """A shard to render and the sets that lack it; None if other runs render all there are."""
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
            if runs:  # one may have claimed, rendered and listed it between our looks at the two
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
        per_shard = self._plan.recipe.samples_per_shard
        for name, follower in self._followers.items():
            folder = self._plan.folder / name
            for shard in follower.look():
                index = shard.start_index // per_shard
                lacking = self._todo.get(index, ())
                if name not in lacking or folder.size(shard.name) != shard.num_bytes:
                    continue
                if lacking := tuple(other for other in lacking if other != name):
                    self._todo[index] = lacking
                else:
                    del self._todo[index]
        self._looked_at = time.monotonic()
