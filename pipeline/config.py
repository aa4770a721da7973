"""Typed configuration: one YAML is one run, one frozen model per stage, unknown keys are errors.

`config_file.py` reads it. The `ray` and `paths` sections say where a run happens and stay
out of every fingerprint (`record.py`); every other section says what it produces and is in it.
Defaults are the paper's CIFAR table where the paper has one (Yang et al. 2022, appendix).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pipeline.config_fields import (
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
from pipeline.eval_config import EvalConfig
from pipeline.finetune_config import FinetuneConfig
from pipeline.method_config import RELEASE_CIFAR100_WEIGHTS
from pipeline.real_config import RealConfig
from pipeline.sweep_config import SweepConfig
from pipeline.train_config import TrainConfig
from pipeline.transfer_config import TransferConfig
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
    """Content-addressed shards, shared by every run: a folder, `s3://bucket/…` or `gs://bucket/…`."""
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
    gains back: its mode, `off`, or `auto`, the default mode on a GPU and none on a CPU.
    """


class TeacherConfig(Section):
    """The GAN: a checkpoint to use, and how `make teacher` trains one (StyleGAN2-ADA; Karras et al.
    2020).
    """

    checkpoint: UserPath | None = None
    """Folder of a teacher to distil; unset, the one that `make teacher` trained under the run."""
    factory: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    """Code that builds a teacher of one's own, `package.module:callable`; see docs/teachers.md."""
    recipe: Literal["cifar", "auto"] = "cifar"
    """Defaults of the fields below: the `cifar` configuration of StyleGAN2-ADA, or `auto`, which
    follows the resolution.
    """
    seed: NonNegative = 0
    """Initial weights, batches, latents and augmentation."""
    z_dim: Positive = 512
    """Width of the latent `z`."""
    w_dim: Positive = 512
    """Width of the mapped latent `w`."""
    num_mapping_layers: Positive = 2
    """Fully connected layers from `z` to `w`."""
    channel_base: Positive = 32768
    """channels(resolution) = min(channel_base // resolution, channel_max)."""
    channel_max: Positive = 512
    """Widest block."""
    conv_clamp: PositiveFloat | None = 256.0
    """Clamp of every convolution's output, against overflow in half precision."""
    num_half_blocks: Annotated[int, Field(ge=0, le=16)] = 4
    """Highest resolutions that run in half precision where `precision` says so."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of those; `auto` is bfloat16 on a GPU and float32 on a CPU."""
    discriminator_skips: Literal["orig", "skip", "resnet"] = "orig"
    """Architecture of the discriminator (Karras et al. 2020, "Analyzing and improving", Fig. 7)."""
    mbstd_group_size: Positive = 32
    """Samples per group of the discriminator's minibatch standard deviation."""
    num_images: Positive = 25_000_000
    """Real images shown to the discriminator in the whole training."""
    global_batch: Positive = 64
    """Images per step."""
    learning_rate: PositiveFloat = 0.0025
    """Adam, β = (0, 0.99), both networks."""
    r1_gamma: NonNegativeFloat = 0.01
    """Weight of the R1 penalty (Mescheder et al. 2018, Eq. 9)."""
    r1_interval: Positive = 16
    """Steps between two R1 penalties (lazy regularisation)."""
    path_length_weight: NonNegativeFloat = 0.0
    """Weight of path-length regularisation; 0 switches it off."""
    path_length_interval: Positive = 4
    """Steps between two of its penalties."""
    style_mixing_p: Fraction = 0.0
    """Probability that a batch's higher layers get the styles of other latents."""
    ema_images: Positive = 500_000
    """Half-life of the generator's moving average, in images."""
    ema_rampup: PositiveFloat | None = 0.05
    """The half-life is at most this share of the images seen so far; null: no such limit."""
    ada_pipe: Literal["bgc", "upright"] = "bgc"
    """Augmentations: `bgc` is the reference's blitting, geometry and colour; `upright` has no
    flips, no turns beyond 20° and no hue, for digits and letters.
    """
    ada_target: Fraction = 0.6
    """Target of E[sign(D(real))] for adaptive augmentation."""
    ada_images: Positive = 500_000
    """Images in which the augmentation probability can move from 0 to 1."""
    ada_interval: Positive = 4
    """Steps between two moves of it."""
    snapshot_images: tuple[Positive, ...] = ()
    """Numbers of images seen at which to keep a teacher under `snapshots/`."""
    quality_images: Annotated[int, Field(ge=0, le=10**6)] = 5000
    """Images with which the distance to the real ones is measured; 0 measures nothing."""
    quality_interval: Positive = 200_000
    """Images seen between two measurements; there is one at each snapshot and at the end, too."""
    inception_weights: UserPath | None = None
    """File with the weights of the original FID Inception; unset, a stated stand-in is used."""

    @model_validator(mode="after")
    def _check(self) -> TeacherConfig:
        if self.global_batch % min(self.mbstd_group_size, self.global_batch):
            raise ValueError("global_batch must be a multiple of mbstd_group_size")
        return self


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


def auto_recipe(resolution: int) -> dict[str, object]:
    """Fields that StyleGAN2-ADA's `auto` configuration derives from the resolution, for one GPU.

    The reference also lets the batch grow with the number of GPUs; here workers never change what
    is trained.
    """
    batch = min(max(4096 // resolution, 1), 32)
    return {
        "global_batch": batch,
        "mbstd_group_size": min(batch, 4),
        "channel_base": 32768 if resolution >= 512 else 16384,
        "learning_rate": 0.002 if resolution >= 1024 else 0.0025,
        "r1_gamma": 0.0002 * resolution**2 / batch,
        "ema_images": batch * 10_000 // 32,
        "discriminator_skips": "resnet",
        "path_length_weight": 2.0,
        "style_mixing_p": 0.9,
    }


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
