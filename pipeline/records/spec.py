"""What determines a stage's output, and its fingerprint.

A config grows without breaking records: a field that was added later is left out as long as it has
its default, so that what was made before it is still found. A default that changes does so with the
`version` of its section. Neighbours: `config/` has the sections, `record.py` keeps specs.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pipeline.config.fields import Section, is_recorded

FIRST_FIELDS = {
    "Config": "name real teacher generate train eval transfer finetune tables sweep",
    "RealConfig": "source path classes resolution samples_per_shard image_codec image_quality",
    "TeacherConfig": (
        "checkpoint factory recipe seed z_dim w_dim num_mapping_layers channel_base channel_max "
        "conv_clamp num_half_blocks precision discriminator_skips mbstd_group_size num_images "
        "global_batch learning_rate r1_gamma r1_interval path_length_weight path_length_interval "
        "style_mixing_p ema_images ema_rampup ada_pipe ada_target ada_images ada_interval "
        "snapshot_images quality_images quality_interval inception_weights"
    ),
    "GenerateConfig": (
        "num_samples seed truncation_psi noise truncation_cutoff features precision "
        "samples_per_shard render_batch image_codec image_quality feature_dtype"
    ),
    "TrainConfig": (
        "seed epochs global_batch method variant batch_norm images source features "
        "synthetic_share learning_rate momentum weight_decay precision pixel_mean pixel_std "
        "student augment shuffle_samples"
    ),
    "StudentConfig": "architecture width stem projector_layers embedding_dim",
    "AugmentConfig": (
        "enabled crop_scale crop_ratio rotation_deg flip_p brightness contrast saturation hue "
        "jitter_p grayscale_p blur_p blur_sigma"
    ),
    "SqueezeAndSpanConfig": "invariance_weight variance_weight covariance_weight name squeeze",
    "VicRegConfig": "invariance_weight variance_weight covariance_weight name convention",
    "SimSiamConfig": "name",
    "EncodingConfig": "name latent_weight perceptual",
    "DiscriminatorConfig": "name level",
    "OwnMethodConfig": "name options",
    "EvalConfig": (
        "probes few_labels seeds knn_k knn_temperature sgd_recipe sgd_epochs baselines "
        "domain_samples embedding_samples"
    ),
    "TransferConfig": "sets",
    "FinetuneConfig": (
        "task root voc_years seed steps batch learning_rate warmup_steps momentum weight_decay "
        "short_sides test_sides long_side flip_p frozen batch_norm head_channels smallest_anchor "
        "normal_clusters precision"
    ),
    "TablesConfig": "seeds epochs rows paper",
    "SweepConfig": "seeds epochs pool_sizes",
}
"""Fields of each section that a fingerprint has always, as it had when a section was hashed whole.
Closed: a field that is added to a section is not added here.
"""


@dataclass(frozen=True)
class Spec:
    """What determines a stage's output: its config section, and its inputs' digests by name."""

    stage: str
    config: dict[str, Any]
    inputs: dict[str, str]

    @classmethod
    def of(cls, stage: str, config: Section, inputs: dict[str, str]) -> Spec:
        """That of `stage` under `config`."""
        return cls(stage, recorded_fields(config), inputs)

    def without(self, *fields: str) -> Spec:
        """The same less some top-level fields of the config."""
        config = {name: value for name, value in self.config.items() if name not in fields}
        return Spec(self.stage, config, self.inputs)

    @property
    def fingerprint(self) -> str:
        """64 hex digits."""
        text = json.dumps([self.stage, self.config, self.inputs], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def recorded_fields(section: Section) -> dict[str, Any]:
    """What a section says of a result, as JSON has it: no field that is about where or how fast,
    and none that was added later and has its default.
    """
    dumped = section.model_dump(mode="json")
    kept: dict[str, Any] = {}
    names = [kind.__name__ for kind in type(section).__mro__]
    first = next((FIRST_FIELDS[name] for name in names if name in FIRST_FIELDS), "").split()
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        has_default = value == field.get_default(call_default_factory=True, validated_data={})
        if is_recorded(field) and (name in first or not has_default):
            kept[name] = recorded_fields(value) if isinstance(value, Section) else dumped[name]
    if section.version > 1:
        kept["version"] = section.version
    return kept


def describe_difference(found: Spec, wanted: Spec) -> str:
    """Fields that differ, as `section.field=old (now new)`; digests are shortened."""
    return ", ".join(list_differences(found, wanted))


def list_differences(found: Spec, wanted: Spec) -> list[str]:
    """One text for each field that differs."""
    before, after = _flatten(found), _flatten(wanted)
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return [
        f"{name}={_short(before.get(name))} (now {_short(after.get(name))})"
        for name in sorted(names)
    ]


def _flatten(spec: Spec) -> dict[str, Any]:
    flat: dict[str, Any] = {f"input {name}": digest for name, digest in spec.inputs.items()}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, child in value.items():
                walk(f"{prefix}.{key}", child)
        else:
            flat[prefix] = value

    walk(spec.stage, spec.config)
    return flat


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text
