"""The `hardware` section of a config: what a process computes on.

Neighbours: `root.py` has the other sections, `engine/` reads this one; of no fingerprint, as `ray`
is.
"""

from __future__ import annotations

from typing import Literal

from pipeline.config.fields import Section

CompileMode = Literal["auto", "off", "default", "reduce-overhead", "max-autotune"]


class HardwareConfig(Section):
    """What the work is computed on."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where networks compute; `auto` is a GPU if the process sees one."""
    compile: CompileMode = "auto"
    """Mode of torch.compile for the networks of a training, or `off`. `auto` is the default
    mode on a GPU, which takes about a minute and pays in long trainings, and `off` on a CPU.
    The generator is compiled with `train.source: online` only.
    """
