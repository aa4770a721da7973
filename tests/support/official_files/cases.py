"""Official checkpoints of many shapes, to be written and imported."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.support.official_files.pytorch import write_pytorch_pickle
from tests.support.official_files.specification import OfficialSpec, State
from tests.support.official_files.tensorflow import write_tensorflow_pickle


@dataclass(frozen=True)
class Case:
    """A checkpoint to write, and how many samples to compute from it."""

    name: str
    spec: OfficialSpec
    num_samples: int = 4
    options: dict[str, Any] = field(default_factory=dict)
    """Of the writer."""

    def write(self, path: Path, *, is_tensorflow: bool) -> tuple[State, State | None]:
        write = write_tensorflow_pickle if is_tensorflow else write_pytorch_pickle
        return write(path, spec=self.spec, seed=len(self.name), **self.options)


CONDITIONAL = OfficialSpec(
    resolution=64,
    z_dim=32,
    num_classes=10,
    channel_base=512,
    generator_clamp=256,
    discriminator_clamp=256,
    mapping_layers=8,
    discriminator_skips="resnet",
    num_fp16_res=4,
)
TENSORFLOW_CONDITIONAL = OfficialSpec(
    resolution=32,
    num_classes=6,
    mapping_layers=3,
    discriminator_skips="resnet",
    discriminator_mapping_layers=2,
    discriminator_mapping_lr_mult=0.1,
    label_width=12,
)
BITING_CLAMPS = {
    f"clamp-{skips}": OfficialSpec(
        generator_skips=skips,
        discriminator_skips=skips,
        generator_clamp=0.5,
        discriminator_clamp=0.4,
    )
    for skips in ("orig", "skip", "resnet")
}

PYTORCH_CASES = [
    Case("unconditional", OfficialSpec(generator_clamp=256, discriminator_clamp=256)),
    Case("conditional", CONDITIONAL),
    Case("discriminator-skip-unclamped", OfficialSpec(discriminator_skips="skip")),
    Case("generator-orig", OfficialSpec(generator_skips="orig")),
    Case("generator-resnet", OfficialSpec(resolution=32, generator_skips="resnet")),
    *(Case(name, spec) for name, spec in BITING_CLAMPS.items()),
    Case(
        "clamped-generator-alone", replace(BITING_CLAMPS["clamp-resnet"], discriminator_clamp=None)
    ),
    Case("bases-differ", OfficialSpec(resolution=32, discriminator_channel_base=320)),
    Case("maxima-differ", OfficialSpec(discriminator_channel_max=11)),
    Case("base-1000", OfficialSpec(resolution=64, channel_base=1000, channel_max=24)),
    Case("base-below-resolution-times-four", OfficialSpec(resolution=32, channel_base=100)),
    Case("grey", OfficialSpec(img_channels=1, discriminator_skips="skip")),
    Case(
        "defaults-omitted",
        OfficialSpec(mapping_layers=8, discriminator_skips="resnet", omits_defaults=True),
    ),
    Case(
        "defaults-omitted-conditional",
        OfficialSpec(
            num_classes=3, mapping_layers=8, discriminator_skips="resnet", omits_defaults=True
        ),
    ),
    *(
        Case(f"frozen-{skips}", OfficialSpec(discriminator_skips=skips, freeze_layers=4))
        for skips in ("orig", "skip", "resnet")
    ),
    Case("one-mapping-layer", OfficialSpec(mapping_layers=1, mapping_lr_mult=0.02)),
    Case(
        "label-mapping-of-its-own",
        OfficialSpec(
            num_classes=5,
            label_width=9,
            discriminator_mapping_layers=1,
            discriminator_mapping_lr_mult=0.05,
        ),
    ),
    Case("label-embedded-only", OfficialSpec(num_classes=5, discriminator_mapping_layers=0)),
    Case("one-class", OfficialSpec(num_classes=1)),
    Case("groups-interleaved", OfficialSpec(mbstd_group_size=3), num_samples=6),
    Case("group-larger-than-batch", OfficialSpec(mbstd_group_size=32), num_samples=3),
    Case("group-is-batch", OfficialSpec(mbstd_group_size=None), num_samples=6),
    Case("single-sample", OfficialSpec(), num_samples=1),
    Case("eight-pixels", OfficialSpec(resolution=8)),
    Case("plain-dicts", OfficialSpec(num_classes=3), options={"easydict": False}),
    Case("generator-only", OfficialSpec(has_discriminator=False)),
    Case("conditional-generator-only", OfficialSpec(num_classes=4, has_discriminator=False)),
]
TENSORFLOW_CASES = [
    Case(
        "eight-mapping-layers-resnet",
        OfficialSpec(
            resolution=32, mapping_layers=8, discriminator_skips="resnet", mbstd_group_size=None
        ),
    ),
    Case(
        "defaults-omitted",
        OfficialSpec(
            mapping_layers=8,
            discriminator_skips="resnet",
            mbstd_group_size=None,
            omits_defaults=True,
        ),
        num_samples=6,
    ),
    Case("conditional", TENSORFLOW_CONDITIONAL),
    Case(
        "conditional-defaults-omitted",
        replace(
            TENSORFLOW_CONDITIONAL,
            mapping_layers=8,
            discriminator_mapping_layers=0,
            label_width=None,
            mbstd_group_size=None,
            omits_defaults=True,
        ),
    ),
    Case(
        "conditional-one-mapping-layer-default-rate",
        replace(
            TENSORFLOW_CONDITIONAL,
            discriminator_mapping_layers=1,
            mbstd_group_size=None,
            omits_defaults=True,
        ),
    ),
    Case(
        "rates-of-its-own",
        replace(TENSORFLOW_CONDITIONAL, mapping_lr_mult=0.02, discriminator_mapping_lr_mult=0.05),
    ),
    Case("lod-names", OfficialSpec(generator_skips="orig", resolution=32, has_lod_names=True)),
    Case("both-skip", OfficialSpec(discriminator_skips="skip", img_channels=1)),
    Case("both-resnet", OfficialSpec(generator_skips="resnet", discriminator_skips="resnet")),
    Case("clamp", BITING_CLAMPS["clamp-resnet"]),
    Case(
        "bases-differ",
        OfficialSpec(
            resolution=64,
            channel_base=1000,
            channel_max=24,
            discriminator_channel_base=600,
            discriminator_channel_max=18,
        ),
    ),
    Case(
        "half-precision-flags",
        OfficialSpec(resolution=32, num_fp16_res=4, generator_clamp=256, discriminator_clamp=256),
    ),
]
