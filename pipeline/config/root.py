"""Typed configuration: one YAML is one run, one frozen model per stage, unknown keys are errors.

`file.py` reads it. The `ray` and `paths` sections say where a run happens and stay out of every
fingerprint (`records/record.py`); every other section says what it produces and is in it. Defaults
are the paper's CIFAR table where the paper has one (Yang et al. 2022, appendix).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pipeline.config.eval import EvalConfig
from pipeline.config.fields import (
    Fraction,
    ImageCodec,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Section,
    Seeds,
    UserPath,
)
from pipeline.config.finetune import FinetuneConfig
from pipeline.config.method import RELEASE_CIFAR100_WEIGHTS
from pipeline.config.real import RealConfig
from pipeline.config.sweep import SweepConfig
from pipeline.config.teacher import TeacherConfig, auto_recipe
from pipeline.config.train import TrainConfig
from pipeline.config.transfer import TransferConfig
from shards.cache import Cache
from shards.errors import UserError
from shards.storage import Folder, check_location


def _check_store(location: str) -> str:
    try:
        check_location(location)
    except UserError as error:
        raise ValueError(str(error)) from None
    return location.rstrip("/") if "://" in location else location


class PathsConfig(Section):
    """Where files go. Not part of any fingerprint."""

    store: Annotated[str, AfterValidator(_check_store)] = "store"
    """Content-addressed shards, shared by every run: a folder, `s3://bucket/…` or
    `gs://bucket/…`.
    """
    cache: UserPath = Path("~/.cache/squeeze-and-span").expanduser()
    """Local copies of a remote store's shards."""
    cache_gb: PositiveFloat = 50.0
    """Room for them, in GB of 10⁹ bytes; the least recently used go first."""
    runs: UserPath = Path("runs")
    """One folder per run: teacher, student, results, report."""


class RayConfig(Section):
    """Where work happens. Not part of any fingerprint: none of this changes a result."""

    render_workers: NonNegative | Literal["all"] = 2
    """Shards rendered at once; 0 renders in this process, without Ray; `all`: as many as the
    cluster has room for, also while it grows.
    """
    train_workers: Positive | Literal["all"] = 1
    """Distributed trainer processes; 1 on an embedded Ray trains in this process; `all`: the most
    that the cluster has room for and that share the batch evenly. Changes results by rounding.
    """
    eval_workers: NonNegative | Literal["all"] = 0
    """Probes fitted at once on Ray; 0 fits them in this process, without Ray."""
    cpus_per_worker: PositiveFloat = 1
    """Processors that Ray sets aside for each rendering task, trainer and probe; a part of one is
    allowed.
    """
    gpus_per_worker: NonNegativeFloat = 0
    """GPUs likewise."""
    placement: Literal["pack", "spread"] = "pack"
    """Whether workers fill one node after the other, or all nodes alike."""
    grow_s: Annotated[int, Field(ge=0, le=86_400)] = 0
    """Seconds to wait for a cluster to grow to what a stage needs; by default it must be there."""
    nodes: Literal["any", "marked"] = "any"
    """Nodes of a cluster that may be used: `marked` sends rendering, trainers and probes only to
    those that offer the custom resource `render`, `train` or `eval`, as in ray_configs/.
    """
    object_store_mb: Annotated[int, Field(ge=75, le=10**6)] = 256
    """Object store of the embedded Ray, in MiB."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU if the process sees one."""
    compile: Literal["auto", "off", "default", "reduce-overhead", "max-autotune"] = "auto"
    """How torch.compile prepares the networks of a training, a minute that a long one on a GPU
    gains back: its mode, `off`, or `auto`, the default mode on a GPU and none on a CPU. The
    generator is among them with `train.source: online`, never for a pool.
    """


class GenerateConfig(Section):
    """The recipe of the synthetic pool, and how much of it this run uses."""

    num_samples: Positive = 100_000
    """Pool size: samples 0 … n-1 of the recipe. More than the store has are rendered, fewer read a
    prefix.
    """
    seed: NonNegative = 0
    """Sample *i* is a function of (seed, i)."""
    truncation_psi: Fraction = 1.0
    """1 draws from the full distribution, as the paper does."""
    noise: Literal["random", "const", "none"] = "random"
    """Noise inputs of the synthesis layers: fresh per sample, the checkpoint's stored maps, or
    none.
    """
    truncation_cutoff: NonNegative | None = None
    """Layers that are truncated, counted from the lowest resolution; unset: all."""
    features: Literal["blocks"] | Annotated[tuple[str, ...], Field(min_length=1)] = "blocks"
    """Features to store: `blocks` (all of them), or names such as `synthesis.b16`,
    `synthesis.b16.conv0` and `w`, which `python -m pipeline inspect-teacher` lists.
    """
    precision: Literal["float32", "float16", "bfloat16"] = "float32"
    """Arithmetic of the teacher's blocks made for half precision, on GPUs; the rest is float32."""
    samples_per_shard: Annotated[int, Field(gt=0, le=10**6)] = 1000
    """Samples in one tar."""
    render_batch: Positive = 100
    """Samples per forward pass; batches never straddle shards."""
    image_codec: ImageCodec = "npy"
    """How images are stored: `npy` raw, `png` lossless, `webp` (lossless at 100) or `jpg`."""
    image_quality: Annotated[int, Field(ge=1, le=100)] = 90
    """Of `webp` and `jpg`."""
    feature_dtype: Literal["float16", "float32"] = "float16"
    """Type of the stored features."""


class TablesConfig(Section):
    """The paper's tables, run on this config (Yang et al. 2022, Tables 1, 2 and 5)."""

    seeds: Seeds = (0, 1, 2)
    """Trainings of every row: values of `train.seed`."""
    epochs: Positive | None = None
    """Epochs of every training; unset: `train.epochs`."""
    rows: Annotated[
        Literal["all"] | Annotated[tuple[str, ...], Field(min_length=1)],
        BeforeValidator(
            lambda rows: rows if rows == "all" or not isinstance(rows, str) else [rows]
        ),
    ] = "all"
    """Which ways to train: `all`, or names of files in `configs/methods/`, without `.yaml`."""
    paper: Literal["cifar10", "cifar100", "stl10", "imagenet100", "imagenet"] | None = None
    """The data set of the paper that this is, whose numbers are put beside ours."""


def _check_name(name: str) -> str:
    if name in ("results.parquet", "representations"):
        raise ValueError("is a folder for all runs; choose another name")
    return name


class Config(Section):
    """A whole run."""

    name: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), AfterValidator(_check_name)
    ]
    """Folder of the run under `paths.runs`; not `results.parquet` or `representations`, which are
    there for all runs.
    """
    paths: PathsConfig = PathsConfig()
    ray: RayConfig = RayConfig()
    real: RealConfig = RealConfig()
    teacher: TeacherConfig = TeacherConfig()
    generate: GenerateConfig = GenerateConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    transfer: TransferConfig = TransferConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    tables: TablesConfig = TablesConfig()
    sweep: SweepConfig = SweepConfig()

    @model_validator(mode="before")
    @classmethod
    def _fill_recipe(cls, data: Any) -> Any:
        """`teacher.recipe: auto` gives the fields of `teacher` that the file leaves out."""
        if not isinstance(data, dict) or not isinstance(data.get("teacher"), dict):
            return data
        teacher, real = data["teacher"], data.get("real") or {}
        resolution = real.get("resolution", 32) if isinstance(real, dict) else None
        try:
            resolution = int(resolution or 0)  # as the field itself does
        except (TypeError, ValueError):
            return data
        if teacher.get("recipe") != "auto" or resolution < 1:
            return data
        return {**data, "teacher": {**auto_recipe(resolution), **teacher}}

    @model_validator(mode="before")
    @classmethod
    def _fill_release_weights(cls, data: Any) -> Any:
        """The release weighs its losses otherwise on CIFAR-100; see `TrainConfig.variant`."""
        if not isinstance(data, dict) or not isinstance(data.get("train"), dict):
            return data
        train, real = data["train"], data.get("real")
        is_cifar100 = isinstance(real, dict) and real.get("source") == "cifar100"
        method = train.get("method", {})
        if not is_cifar100 or train.get("variant") != "release" or not isinstance(method, dict):
            return data
        if method.get("name", "squeeze_and_span") not in ("squeeze_and_span", "vicreg"):
            return data
        return {**data, "train": {**train, "method": {**RELEASE_CIFAR100_WEIGHTS, **method}}}

    @property
    def store(self) -> Folder:
        """Root of the store."""
        return Folder.at(self.paths.store)

    @property
    def cache(self) -> Cache:
        """Local copies of a remote store's shards."""
        return Cache(self.paths.cache, int(self.paths.cache_gb * 1e9))

    @property
    def run_dir(self) -> Path:
        """Folder of this run."""
        return self.paths.runs / self.name

    @property
    def teacher_folder(self) -> Path:
        """The teacher to distil: the configured checkpoint, else the one trained in this run."""
        return self.teacher.checkpoint or self.run_dir / "teacher"
