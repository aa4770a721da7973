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
    """Epochs between two measurements, which are made at lines of metrics and always at the
    last one; 0 measures nothing. `auto` measures 20 times per run: after every epoch if there
    are fewer than 20, and more rarely in very short runs.
    """
    set: str | None = None
    """Images to measure on: a name in `eval.sets`; by default the run's own real images."""
    samples: Positive | Literal["auto"] = "auto"
    """Largest number of train images (the neighbours) and of test images (to classify). `auto`
    takes as many as cost at most 2 % of the training's time, up to 4,096.
    """
