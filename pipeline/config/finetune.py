"""The `finetune` section of a config: a dense task, its data, and how the student is fine-tuned on
it.

Defaults follow the task and are those of the protocol behind the paper's Table 4 (Ericsson et al.
2021, "How well do self-supervised models transfer?", and the code released with it). Neighbours:
`root.py` has the other sections, `eval/dense/` does it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.config.fields import (
    Fraction,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Section,
    UserPath,
    unrecorded,
)

TaskName = Literal["detection", "segmentation", "normals"]
Side = Annotated[int, Field(ge=16, le=10**4)]
Sides = Annotated[tuple[Side, ...], Field(min_length=1)]
Share = Annotated[float, Field(ge=0, lt=1)]

_PROTOCOLS: dict[str, dict[str, Any]] = {
    "detection": {},  # the fields' own defaults
    "segmentation": {
        "steps": 150_000,
        "learning_rate": 0.02,
        "warmup_steps": 0,
        "short_sides": (300, 375, 450, 525, 600),
        "test_sides": (300, 375, 450, 525, 600),
        "long_side": 1000,
        "frozen": "none",
        "batch_norm": "trained",
        "head_channels": 512,
    },
    "normals": {
        "steps": 13_500,
        "learning_rate": 0.02,
        "warmup_steps": 0,
        "short_sides": (300, 375, 450, 525, 600),
        "test_sides": (450,),
        "long_side": 1000,
        "flip_p": 0.0,
        "frozen": "layer4",
        "batch_norm": "trained",
        "head_channels": 512,
    },
}


class FinetuneConfig(Section):
    """Fine-tuning of the student on a dense task (Yang et al. 2022, Table 4). Defaults follow the
    task where a field says "By task", in the order `detection`, `segmentation`, `normals`.
    """

    task: TaskName = "detection"
    """`detection`: VOC2007 objects, Faster R-CNN; `segmentation`: ADE20K classes, UperNet;
    `normals`: NYUv2 surface normals, a dilated backbone with pyramid pooling.
    """
    root: UserPath | None = None
    """Folder of the task's images and labels: the one that contains `VOCdevkit/`, or
    `ADEChallengeData2016/`, or for NYUv2 `images/`, `normals/` and `gt_sets/`.
    """
    voc_years: Annotated[tuple[Literal["2007", "2012"], ...], Field(min_length=1)] = (
        "2007",
        "2012",
    )
    """`detection`: years whose trainval images are used for training; testing is always on
    VOC2007's test images.
    """
    seed: NonNegative = 0
    """Seed of new layers, order, sizes, flips, and what the network draws."""
    steps: Positive = 144_000
    """Steps of training. By task: 144,000; 150,000; 13,500."""
    batch: Positive = 2
    """Images per step."""
    learning_rate: PositiveFloat = 0.0025
    """Initial learning rate of SGD. By task: 0.0025, divided by 10 after 2/3 of the steps and
    again after 8/9; 0.02 and 0.02, multiplied by (1 - step / steps)^0.9.
    """
    warmup_steps: NonNegative = 100
    """Steps in which the rate rises from a thousandth of its value. By task: 100; 0; 0."""
    momentum: Share = 0.9
    """Momentum of SGD."""
    weight_decay: NonNegativeFloat = 1e-4
    """Weight decay of SGD; in `segmentation` and `normals` not on biases and batch
    normalisation.
    """
    short_sides: Sides = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    """Lengths of the shorter side in training, in pixels; one is drawn for every image
    (`detection`) or step. By task: 480 to 800 by 32; 300 to 600 by 75; the same.
    """
    test_sides: Sides = (800,)
    """Lengths of the shorter side in testing; predictions are averaged over them, `detection`
    has one. By task: 800; 300 to 600 by 75; 450.
    """
    long_side: Side = 1333
    """Upper limit of the longer side, to which the shorter one is adapted. By task: 1333; 1000;
    1000.
    """
    flip_p: Fraction = 0.5
    """Probability of a horizontal flip in training. By task: 0.5; 0.5; 0."""
    frozen: Literal["none", "stem", "layer1", "layer2", "layer3", "layer4"] = "layer1"
    """The backbone is fixed up to and including this part, with its batch normalisation. By
    task: `layer1`; `none`; `layer4`, which is all of it.
    """
    batch_norm: Literal["fixed", "trained"] = "fixed"
    """Batch normalisation in the rest of the backbone: the student's statistics (`fixed`), or
    those of the batches (`trained`). By task: `fixed`; `trained`; `trained`.
    """
    head_channels: Positive = 256
    """Width of the feature pyramid, or of the head's layers. By task: 256; 512; 512."""
    smallest_anchor: Annotated[int, Field(ge=4)] = 32
    """`detection`: side of the anchors on the finest level, in pixels; it doubles with each
    coarser level.
    """
    normal_clusters: Annotated[int, Field(ge=2, le=1000)] = 40
    """`normals`: number of directions, found by k-means, into which pixels are classified."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the networks, for `detection` of the backbone and its pyramid; losses and
    weights are always float32. `auto` is bfloat16 on a GPU that supports it, else float32.
    """
    checkpoint_interval_s: NonNegativeFloat = unrecorded(60.0)
    """Seconds between two checkpoints."""

    @model_validator(mode="before")
    @classmethod
    def _fill_protocol(cls, data: Any) -> Any:
        """The task's protocol gives the fields that the file leaves out."""
        if not isinstance(data, dict) or data.get("task") not in _PROTOCOLS:
            return data
        return {**_PROTOCOLS[data["task"]], **data}

    @model_validator(mode="after")
    def _check(self) -> FinetuneConfig:
        if self.task == "detection" and len(self.test_sides) > 1:
            raise ValueError("test_sides must have one value for task=detection")
        if self.task != "detection" and self.batch < 2:
            raise ValueError(f"batch must be at least 2 for task={self.task}, which normalises it")
        if self.task == "normals" and self.flip_p:
            raise ValueError("flip_p must be 0 for task=normals, as in the protocol")
        if len(set(self.voc_years)) < len(self.voc_years):
            raise ValueError("voc_years: duplicate year; name each once")
        return self
