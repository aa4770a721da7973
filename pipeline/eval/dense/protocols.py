"""What a fine-tuned student's results rest on, in one sentence that stands beside them.

Neighbours: `detection.py` and `pixelwise.py` do what is said here.
"""

from __future__ import annotations

from pipeline.config.finetune import FinetuneConfig
from pipeline.config.student import StudentConfig

_NETWORKS = {
    "detection": (
        "torchvision's Faster R-CNN with a feature pyramid of {width} channels, anchors from "
        "{anchor} px; VOC trainval of {years}, difficult objects included"
    ),
    "segmentation": "UperNet of {width} channels; ADE20K's training images, 150 classes",
    "normals": (
        "pyramid pooling of {width} channels on layer4, layer3 and layer4 dilated, which "
        "classifies pixels as one of at most {clusters} directions found by k-means in the train "
        "normals; NYUv2's train images"
    ),
}
_SCHEDULES = {
    "detection": "a tenth after 2/3 and a hundredth after 8/9 of the steps",
    "segmentation": "times (1 - step/steps)^0.9",
    "normals": "times (1 - step/steps)^0.9",
}
_TESTS = {
    "detection": (
        "VOC2007 test, difficult objects left out, VOC's matching and 11-point AP, its mean over "
        "classes and over overlaps 0.5 to 0.95 by 0.05, as detectron2 has it"
    ),
    "segmentation": (
        "ADE20K's validation images at full size, probabilities averaged over sizes, mean IoU of "
        "all labelled pixels together"
    ),
    "normals": (
        "NYUv2's val images at full size, the mean direction under the probabilities, angles of "
        "all labelled pixels together"
    ),
}


def describe_protocol(config: FinetuneConfig, student: StudentConfig) -> str:
    """Network, training and test of `config`'s task."""
    network = _NETWORKS[config.task].format(
        width=config.head_channels,
        anchor=config.smallest_anchor,
        years=" and ".join(config.voc_years),
        clusters=config.normal_clusters,
    )
    decayed = "all weights" if config.task == "detection" else "kernels only"
    fixed = "nothing frozen" if config.frozen == "none" else f"frozen up to {config.frozen}"
    return (
        f"{student.architecture} of width {student.width} with the {student.stem} stem, {fixed}, "
        f"its other batch normalisation {config.batch_norm}; {network}; {config.steps} steps of "
        f"{config.batch} images of shorter side {_sides(config.short_sides)}, longer side up to "
        f"{config.long_side}, flipped with p {config.flip_p:g}; SGD, momentum {config.momentum:g}, "
        f"weight decay {config.weight_decay:g} on {decayed}, learning rate "
        f"{config.learning_rate:g}, {_SCHEDULES[config.task]}, {config.warmup_steps} steps of "
        f"warm-up; tested after the last step on {_TESTS[config.task]}, shorter side "
        f"{_sides(config.test_sides)}"
    )


def _sides(sides: tuple[int, ...]) -> str:
    return ", ".join(map(str, sides))
