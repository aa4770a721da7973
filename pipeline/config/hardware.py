"""The `hardware` section of a config: what a process computes on.

Neighbours: `root.py` has the other sections, `engine/` reads this one; of no fingerprint, as `ray`
is.
"""

from __future__ import annotations

from typing import Literal

from pipeline.config.fields import Section

CompileMode = Literal["auto", "off", "default", "reduce-overhead", "max-autotune"]


class HardwareConfig(Section):
    """What the work is computed on. Not part of any fingerprint."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU if the process sees one."""
    compile: CompileMode = "auto"
    """How torch.compile prepares the networks of a training, a minute that a long one on a GPU
    gains back: its mode, `off`, or `auto`, the default mode on a GPU and none on a CPU. The
    generator is among them with `train.source: online`, never for a pool.
    """
