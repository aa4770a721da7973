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
    """Fine-tuning the student on a dense task (Yang et al. 2022, Table 4). The defaults in the
    docstrings below are in the order detection, segmentation, normals where they differ.
    """

    task: TaskName = "detection"
    """`detection`: VOC2007 objects, Faster R-CNN; `segmentation`: ADE20K classes, UperNet;
    `normals`: NYUv2 surface normals, a dilated backbone with pyramid pooling.
    """
    root: UserPath | None = None
    """Folder of the task's images and labels: the one with `VOCdevkit/`, with
    `ADEChallengeData2016/`, or of NYUv2 the one with `images/`, `normals/` and `gt_sets/`.
    """
    voc_years: Annotated[tuple[Literal["2007", "2012"], ...], Field(min_length=1)] = (
        "2007",
        "2012",
    )
    """Of `detection`: the years whose trainval images are trained on; it is VOC2007's test images
    that are tested on.
    """
    seed: NonNegative = 0
    """Weights of the new layers, order, sizes, flips, and what the network draws."""
    steps: Positive = 144_000
    """Steps of training: 144,000; 150,000; 13,500."""
    batch: Positive = 2
    """Images per step."""
    learning_rate: PositiveFloat = 0.0025
    """Of SGD at first: 0.0025, a tenth after 2/3 of the steps and a hundredth after 8/9; 0.02 and
    0.02, times (1 - step / steps)^0.9.
    """
    warmup_steps: NonNegative = 100
    """Steps in which the rate rises from a thousandth of it: 100; 0; 0."""
    momentum: Share = 0.9
    """Of SGD."""
    weight_decay: NonNegativeFloat = 1e-4
    """Of SGD; of `segmentation` and `normals`, biases and batch normalisation have none."""
    short_sides: Sides = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    """Shorter sides, in pixels, of which one is drawn in training (of `detection` for every image,
    else for every step): 480 to 800 by 32; 300 to 600 by 75, twice.
    """
    test_sides: Sides = (800,)
    """Shorter sides in testing, whose predictions are averaged: 800; 300 to 600 by 75; 450.
    `detection` has one.
    """
    long_side: Side = 1333
    """The longer side is at most this; the shorter one follows: 1333; 1000; 1000."""
    flip_p: Fraction = 0.5
    """Probability of a horizontal flip in training: 0.5; 0.5; 0."""
    frozen: Literal["none", "stem", "layer1", "layer2", "layer3", "layer4"] = "layer1"
    """The backbone is fixed up to and with this part, its batch normalisation, too: layer1; none;
    layer4, which is all of it.
    """
    batch_norm: Literal["fixed", "trained"] = "fixed"
    """Of the backbone's other parts: the student's statistics, or those of the batches: fixed;
    trained; trained.
    """
    head_channels: Positive = 256
    """Width of the feature pyramid, or of the layers of the head: 256; 512; 512."""
    smallest_anchor: Annotated[int, Field(ge=4)] = 32
    """Of `detection`: side in pixels of the anchors on the finest level; each coarser level has
    twice that of the one before.
    """
    normal_clusters: Annotated[int, Field(ge=2, le=1000)] = 40
    """Of `normals`: directions, found by k-means, of which every pixel is classified as one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the networks, of `detection` the backbone and its pyramid only; losses and
    weights are float32 always. `auto` is bfloat16 on a GPU that has it, else float32.
    """
    checkpoint_interval_s: NonNegativeFloat = unrecorded(60.0)
    """Seconds between checkpoints. Not in the fingerprint."""

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
            raise ValueError("test_sides has one value for task=detection, whose boxes are its own")
        if self.task != "detection" and self.batch < 2:
            raise ValueError(f"batch must be at least 2 for task={self.task}, which normalises it")
        if self.task == "normals" and self.flip_p:
            raise ValueError("flip_p must be 0 for task=normals, as in the protocol")
        if len(set(self.voc_years)) < len(self.voc_years):
            raise ValueError("voc_years has a year twice")
        return self
