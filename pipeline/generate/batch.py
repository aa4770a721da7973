"""A batch of samples as the columns of shards: rendered, brought to the host, converted.

The parts are apart, so that each has a thread of its own in `render.py`; an audit of a pool wants
all of it at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pipeline.engine.gpu import HostCopy
from pipeline.generate.plan import PoolRecipe
from pipeline.teacher.draws import GeneratorInputs, draw_inputs
from pipeline.teacher.interface import TeacherGenerator
from pipeline.teacher.rendered import render_samples
from shards.errors import UserError
from shards.schema import Schema, W, encode_meta

ColumnArrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class RenderedBatch:
    """Samples that are rendered, or on a GPU soon will be."""

    indices: np.ndarray
    copy: HostCopy
    """`image`, `finite` (bool []), `w`, `classes` of a conditional teacher, and pooled features by
    their set's name.
    """

    def columns(self, recipe: PoolRecipe, schemas: Mapping[str, Schema]) -> dict[str, ColumnArrays]:
        """Columns for every set of `schemas`: image uint8 [n, 3, R, R], w float16 and meta, or
        features.

        Raises:
            UserError: if an image is not finite, or a feature in its type.
        """
        arrays = {name: tensor.numpy() for name, tensor in self.copy.wait().items()}
        indices = self.indices
        if not arrays["finite"]:
            raise _infinite(recipe, indices, "images")
        found: dict[str, ColumnArrays] = {}
        for name, schema in schemas.items():
            if not schema.features:
                meta = _describe_samples(recipe, indices, arrays.get("classes"))
                found[name] = {"image": arrays["image"], W: arrays[W], "meta": meta}
                continue
            with np.errstate(over="ignore"):  # an overflow is reported
                features = arrays[name].astype(schema.column("features").dtype)
            if not np.isfinite(features).all():
                raise _infinite(recipe, indices, f"features in {features.dtype}")
            found[name] = {"features": features}
        return found


def start_batch(
    generator: TeacherGenerator,
    recipe: PoolRecipe,
    schemas: Mapping[str, Schema],
    indices: np.ndarray,
    inputs: GeneratorInputs,
) -> RenderedBatch:
    """Render for the sets `schemas` the samples `indices` [n], of `inputs` on the same device."""
    wanted = {name: [block.name for block in schemas[name].features] for name in schemas}
    names = sorted({name for names in wanted.values() for name in names})
    samples = render_samples(generator, recipe.sampling, inputs, names)
    tensors: dict[str, Tensor] = {"finite": samples.is_finite}
    for name, features in wanted.items():
        if features:
            tensors[name] = samples.pooled(features)
        else:
            tensors |= {"image": samples.image, W: samples.w.half()}
    if inputs.classes is not None:
        tensors["classes"] = inputs.classes
    return RenderedBatch(indices, HostCopy(tensors, inputs.z.device))


def render_batch(
    generator: TeacherGenerator,
    recipe: PoolRecipe,
    schemas: Mapping[str, Schema],
    indices: np.ndarray,
) -> dict[str, ColumnArrays]:
    """The samples `indices` [n] for every set of `schemas`, as `RenderedBatch.columns` has them."""
    inputs = draw_inputs(generator, recipe.sampling, indices)
    return start_batch(generator, recipe, schemas, indices, inputs).columns(recipe, schemas)


def _infinite(recipe: PoolRecipe, indices: np.ndarray, what: str) -> UserError:
    """What to do about `what` of a batch overflowing."""
    fields = ["generate.precision=float32"] if recipe.precision == "float16" else []
    if what.endswith("float16"):
        fields.append("generate.feature_dtype=float32")
    remedy = f"; set {' or '.join(fields)}" if fields else ": the teacher overflows"
    return UserError(f"samples {indices[0]}-{indices[-1]}: {what} are not finite{remedy}")


def _describe_samples(
    recipe: PoolRecipe, indices: np.ndarray, classes: np.ndarray | None
) -> np.ndarray:
    return encode_meta(
        {"index": int(index), "seed": recipe.seed}
        | ({} if classes is None else {"label": int(classes[row])})
        for row, index in enumerate(indices)
    )
