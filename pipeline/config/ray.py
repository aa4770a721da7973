"""The `ray` section of a config: how much work happens at once, and on which nodes.

Neighbours: `root.py` has the other sections, `cluster/` and `engine/launch.py` read this one; of no
fingerprint, as `hardware` and `paths` are.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.fields import NonNegative, NonNegativeFloat, Positive, PositiveFloat, Section


class RayConfig(Section):
    """How much work happens at once, and on which nodes of a cluster."""

    render_workers: NonNegative | Literal["all"] = 2
    """Shards rendered at once. 0 renders in this process, without Ray; `all` takes what the
    cluster has room for, and more as it grows.
    """
    pack_workers: NonNegative | Literal["all"] = 2
    """Shards of real images packed at once, as for `render_workers`. Up to 2,000 images are
    packed in this process.
    """
    train_workers: Positive | Literal["all"] = 1
    """Distributed trainer processes. 1 without a cluster trains in this process; `all` takes
    the largest number that fits and divides the batch evenly. Another number changes results by
    rounding.
    """
    eval_workers: NonNegative | Literal["all"] = 0
    """Probes fitted at once on Ray; 0 fits them in this process, without Ray. `linear_sgd` and
    fine-tuning take one worker, on a cluster even with 0.
    """
    study_workers: NonNegative | Literal["all"] = "all"
    """Trainings of tables and sweeps at once on Ray. 0 runs one after the other in this
    process, without Ray; `all` takes as many as there is room for.
    """
    cpus_per_worker: PositiveFloat = 1
    """Processors that Ray reserves for each rendering task, trainer and probe; may be a
    fraction. Without a GPU their number changes the sums of training and fine-tuning by
    rounding.
    """
    gpus_per_worker: NonNegativeFloat = 0
    """GPUs that Ray reserves for each of them; may be a fraction."""
    placement: Literal["pack", "spread"] = "pack"
    """`pack` fills one node after the other, `spread` uses all nodes alike."""
    grow_s: Annotated[int, Field(ge=0, le=86_400)] = 0
    """Seconds to wait for the cluster to grow to what a stage needs; with 0 the stage stops at
    once if it does not fit.
    """
    nodes: Literal["any", "marked"] = "any"
    """Nodes that may be used. `marked` sends packing and rendering, trainers and probes only to
    nodes with the custom resource `render`, `train` or `eval`, as the files in `ray_configs/`
    set up.
    """
    object_store_mb: Annotated[int, Field(ge=75, le=10**6)] = 256
    """Object store of the embedded Ray, in MiB."""
