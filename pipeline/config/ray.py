"""The `ray` section of a config: how much work happens at once, and on which nodes.

Neighbours: `root.py` has the other sections, `cluster/` and `engine/launch.py` read this one; of no
fingerprint, as `hardware` and `paths` are.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.fields import NonNegative, NonNegativeFloat, Positive, PositiveFloat, Section


class RayConfig(Section):
    """Where work happens. Not part of any fingerprint: none of this changes a result."""

    render_workers: NonNegative | Literal["all"] = 2
    """Shards rendered at once; 0 renders in this process, without Ray; `all`: as many as the
    cluster has room for, also while it grows.
    """
    pack_workers: NonNegative | Literal["all"] = 2
    """Shards of real images packed at once, likewise; a few images are packed in this process."""
    train_workers: Positive | Literal["all"] = 1
    """Distributed trainer processes; 1 on an embedded Ray trains in this process; `all`: the most
    that the cluster has room for and that share the batch evenly. Changes results by rounding.
    """
    eval_workers: NonNegative | Literal["all"] = 0
    """Probes fitted at once on Ray; 0 fits them in this process, without Ray. `linear_sgd` and
    fine-tuning take one worker, on a cluster in any case.
    """
    study_workers: NonNegative | Literal["all"] = "all"
    """Trainings of tables and sweeps at once on Ray; 0 runs one after the other in this process,
    without Ray; `all`: as many as there is room for.
    """
    cpus_per_worker: PositiveFloat = 1
    """Processors that Ray sets aside for each rendering task, trainer and probe; a part of one is
    allowed. Without a GPU their number rounds the sums of training and fine-tuning.
    """
    gpus_per_worker: NonNegativeFloat = 0
    """GPUs likewise."""
    placement: Literal["pack", "spread"] = "pack"
    """Whether workers fill one node after the other, or all nodes alike."""
    grow_s: Annotated[int, Field(ge=0, le=86_400)] = 0
    """Seconds to wait for a cluster to grow to what a stage needs; by default it must be there."""
    nodes: Literal["any", "marked"] = "any"
    """Nodes of a cluster that may be used: `marked` sends packing and rendering, trainers and
    probes only to those that offer the custom resource `render`, `train` or `eval`, as in
    ray_configs/.
    """
    object_store_mb: Annotated[int, Field(ge=75, le=10**6)] = 256
    """Object store of the embedded Ray, in MiB."""
