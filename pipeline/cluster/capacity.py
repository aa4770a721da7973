"""What a worker needs of Ray, how many there is room for, and waiting for a cluster to grow.

Neighbours: `connection.py` connects; the stages ask here before they hand out work, so that what
can never be placed is said within seconds instead of waited for.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pipeline.cluster import connection
from pipeline.config.ray import RayConfig
from pipeline.terminal.progress import console
from shards.errors import UserError

WorkKind = Literal["pack", "render", "train", "eval"]
_FIELDS = {
    "pack": "pack_workers",
    "render": "render_workers",
    "train": "train_workers",
    "eval": "eval_workers",
}
_MARK = 0.001
_LOOK_S = 2.0


def needs(config: RayConfig, work: WorkKind) -> dict[str, float]:
    """Resources that Ray sets aside for one worker.

    With `ray.nodes=marked` a thousandth of the custom resource named after the work, of which its
    nodes offer 1, so that marks never limit how many run; never on an embedded Ray, which offers
    none. Packing goes where rendering does, and needs no GPU.
    """
    gpus = 0 if work == "pack" else config.gpus_per_worker
    need = {"CPU": config.cpus_per_worker, "GPU": gpus}
    if config.nodes == "marked" and connection.is_external():
        need["render" if work == "pack" else work] = _MARK
    return {name: amount for name, amount in need.items() if amount}


def task_options(config: RayConfig, work: WorkKind) -> dict[str, Any]:
    """The same as options of a Ray task, with where it goes."""
    need = needs(config, work)
    return {
        "num_cpus": need.pop("CPU", 0),
        "num_gpus": need.pop("GPU", 0),
        "resources": need,
        "scheduling_strategy": "SPREAD" if config.placement == "spread" else "DEFAULT",
    }


def count_places(need: Mapping[str, float], nodes: Iterable[Mapping[str, float]]) -> int:
    """Workers for whom the `nodes`, each a table of its resources, have room when nothing else
    runs.
    """
    return sum(
        min(int(node.get(name, 0) / amount + 1e-9) for name, amount in need.items())
        for node in nodes
    )


def find_places(config: RayConfig, work: WorkKind) -> int:
    """The same of the connected cluster as it is now."""
    alive = [node["Resources"] for node in connection.list_nodes() if node["Alive"]]
    return count_places(needs(config, work), alive)


def require(config: RayConfig, work: WorkKind, workers: int = 1) -> None:
    """Return once there is room for `workers`.

    Raises:
        UserError: if there is none, on a cluster after `ray.grow_s`.
    """
    places = find_places(config, work)
    if places >= workers:
        return
    need = ", ".join(f"{amount:g} {name}" for name, amount in needs(config, work).items())
    problem = (
        f"ray.{_FIELDS[work]}: {workers} worker{'s' if workers > 1 else ''} with {need} each, but "
        f"Ray has room for {places}"
    )
    if not connection.is_external():
        raise UserError(f"{problem} here; ask for less, or name a cluster with RAY_ADDRESS")
    if config.grow_s:
        console.print(f"{problem} now; waiting up to {config.grow_s} s for the cluster to grow")
        if _has_grown(config, work, workers):
            return
    raise UserError(
        f"{problem}; ask for less, add nodes, or wait for an autoscaler with ray.grow_s=900"
    )


def _has_grown(config: RayConfig, work: WorkKind, workers: int) -> bool:
    """Wait, with a placement group that tells the autoscaler what is wanted."""
    from ray.util import placement_group, remove_placement_group

    wanted = placement_group([needs(config, work)] * workers)
    try:
        deadline = time.monotonic() + config.grow_s
        while time.monotonic() < deadline:
            if find_places(config, work) >= workers:
                return True
            time.sleep(1)
        return False
    finally:
        remove_placement_group(wanted)


class Limit:
    """How many tasks to keep with Ray: enough that no worker waits for the driver, and no more at
    work than were asked for.

    An embedded Ray has just the processors for its workers, so that as many again may queue. On a
    cluster they would run. For "all" it is what the cluster has room for at the moment and one
    more, by which an autoscaler sees that it is wanted.
    """

    def __init__(self, config: RayConfig, work: WorkKind, wanted: int | Literal["all"]) -> None:
        self._config = config
        self._work: WorkKind = work
        self._wanted = wanted
        self._places = 0
        self._looked_at = -_LOOK_S

    @property
    def now(self) -> int:
        """Tasks, at this moment."""
        if self._wanted != "all":
            return self._wanted * (1 if connection.is_external() else 2)
        if time.monotonic() - self._looked_at >= _LOOK_S:
            self._places, self._looked_at = find_places(self._config, self._work), time.monotonic()
        return self._places + 1


def choose_train_workers(config: RayConfig, parts: Iterable[int]) -> int:
    """`ray.train_workers`; for "all" the most that fit and divide each of the `parts` of a global
    batch.
    """
    if config.train_workers != "all":
        return config.train_workers
    parts = list(parts)
    places = max(find_places(config, "train"), 1)
    return next(n for n in range(places, 0, -1) if all(part % n == 0 for part in parts))
