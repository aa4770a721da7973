"""Learning rates of fine-tuning: a function of the step, so that nothing of them is kept."""

from __future__ import annotations

from pipeline.config.finetune import FinetuneConfig

_WARMUP_START = 1e-3
_DROPS = ((2, 3), (8, 9))
"""After these shares of the steps."""
_POWER = 0.9


def learning_rate(config: FinetuneConfig, step: int) -> float:
    """Rate of `step`, from 0: dropped tenfold twice for `detection` (detectron2's), else falling to
    0 as a power of what remains (Zhao et al. 2017); the first steps warm up linearly.
    """
    rate = config.learning_rate
    if config.task == "detection":
        rate *= 0.1 ** sum(step * of >= config.steps * part for part, of in _DROPS)
    else:
        rate *= (1 - step / config.steps) ** _POWER
    if step < config.warmup_steps:
        rate *= _WARMUP_START + (1 - _WARMUP_START) * step / config.warmup_steps
    return rate
