"""The `train.optimizer` section of a config: how the weights follow their gradients.

Neighbours: `train.py` has the section beside learning rate, momentum and weight decay,
`train/optimizer.py` does it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from pipeline.config.fields import Fraction, NonNegativeFloat, PositiveFloat, Section


class OptimizerConfig(Section):
    """Optimiser and schedule; the defaults are the paper's."""

    name: Literal["sgd", "lars", "adamw"] = "sgd"
    """`sgd` with momentum; `lars`, the same with layer-wise adaptive rates, for batches of
    thousands; `adamw`, for ViTs and ConvNeXts, which wants a learning rate of some 5e-4.
    """
    decay: Literal["all", "weights"] = "all"
    """Parameters that have weight decay: `all`, or `weights`, not norms and biases, whatever has
    one dimension; with `lars` these then have no adaptive rate either.
    """
    warmup_epochs: NonNegativeFloat = 0.0
    """Epochs at the beginning in which the rate grows from 0, a little at every step."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warm-up."""
    stepped: Literal["epoch", "step"] = "epoch"
    """When a cosine goes down."""
    final_rate: Fraction = 0.0
    """Where a cosine ends, as a share of the learning rate."""
    clip_norm: PositiveFloat | None = None
    """Longest gradient of all networks together; longer ones are shortened to it."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_accumulation(cls, data: Any) -> Any:
        for name in data if isinstance(data, dict) else ():
            if "accum" in str(name) or "micro" in str(name):
                raise ValueError(
                    f"{name}: micro-batches would have statistics of their own, and the losses "
                    "are of the whole batch; use more workers, or a smaller train.global_batch"
                )
        return data
