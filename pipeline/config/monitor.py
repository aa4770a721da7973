"""The `train.monitor` section of a config: how a student is watched while it trains.

Of no fingerprint: it changes nothing of what is trained. Neighbours: `train.py` has the section,
`train/monitor/` does the measuring.
"""

from __future__ import annotations

from typing import Literal

from pipeline.config.fields import NonNegative, Positive, Section


class MonitorConfig(Section):
    """kNN accuracy of the student while it trains; alignment and uniformity without labels."""

    every_epochs: NonNegative | Literal["auto"] = "auto"
    """Epochs from one measurement to the next, at lines of metrics; the last line always has one. 0
    measures nothing. `auto`: 20 times a run, after every epoch of fewer than 20, and more rarely
    where a run is too short for that.
    """
    set: str | None = None
    """Images to measure on: a name of `eval.sets`; unset, the run's own real images."""
    samples: Positive | Literal["auto"] = "auto"
    """Most images on each side: neighbours, of the train images, and images to classify, of the
    test images. `auto`: as many as take no more than 2 % of the training's time, up to 4,096.
    """
