"""What a student was made of, for readers: teacher, pool, real images, training, code."""

from __future__ import annotations

from pipeline.config.root import Config
from pipeline.records.ancestors import Ancestors
from pipeline.records.products import RealImages, Student

_LESSONS = {
    "squeeze_and_span": "Squeeze and span (Yang et al., NeurIPS 2022), with the pooled features of "
    "the generator as targets",
    "vicreg": "VICReg (Bardes et al., ICLR 2022)",
    "simsiam": "SimSiam (Chen & He, CVPR 2021)",
    "encoding": "Encoding into the generator's latents (Yang et al., NeurIPS 2022, Eq. 3)",
}


def describe_lineage(config: Config, origin: Ancestors) -> dict[str, str]:
    """Title -> text, from the records of the stages."""
    train, pool = origin.student, origin.pool
    student = train.outputs.digest[:16]
    lineage = {}
    if pool is not None:
        lineage["teacher"] = (
            f"{pool.outputs.teacher}, generator sha256 {pool.inputs['teacher'][:16]}…"
        )
        lineage["pool"] = (
            f"cache key {pool.outputs.key}, size {pool.outputs.num_samples:,}, seed "
            f"{config.generate.seed}"
        )
    elif "teacher" in train.inputs:
        lineage["teacher"] = f"{config.teacher_folder}, sha256 {train.inputs['teacher'][:16]}…"
    num_skipped = origin.real.outputs.num_skipped
    skipped = f", {num_skipped:,} left out that could not be read" if num_skipped else ""
    return lineage | {
        "real images": f"{config.real.source}, shards {origin.real.outputs.folder}{skipped}",
        "student": f"{_student(config)}, sha256 {student}…",
        "training": f"{config.train.method.name}, {config.train.variant} variant, "
        f"{config.train.batch_norm} batch normalisation, views of {config.view_size} px, "
        f"{config.train.epochs} epochs, {_ends(config, train.outputs)}"
        f"fingerprint {train.fingerprint[:16]}, finished {train.created_at}",
        "code": str(train.commit or "not a git checkout"),
        "versions": ", ".join(f"{name} {version}" for name, version in train.versions.items()),
    }


def _ends(config: Config, student: Student) -> str:
    """Where a training began and ended, unless that is at random weights and at its end."""
    texts = []
    if student.stopped_at_epoch is not None:
        texts.append(f"stopped after {student.stopped_at_epoch:g}, ")
    if config.train.init is not None:
        texts.append(f"from {config.train.init}, sha256 {str(student.init)[:16]}…, ")
    return "".join(texts)


def _student(config: Config) -> str:
    if config.train.method.name == "discriminator":
        return "the discriminator's features"
    described = config.train.student.backbone
    architecture = described.pop("architecture")
    return ", ".join([str(architecture), *(f"{name} {described[name]}" for name in described)])


def describe_lesson(
    config: Config, pool_size: int, real: RealImages, num_teacher: int | None
) -> str:
    """What the student learned from, in one sentence or two; `num_teacher` is how many images the
    teacher was trained on, where that is known.
    """
    train = config.train
    if train.method.name == "discriminator":
        return "No student was trained: these are features of the GAN's discriminator."
    images = []
    if train.num_synthetic:
        how = "rendered once by" if train.reads_pool else "rendered, each for one step, by"
        images.append(f"{pool_size:,} images {how} a frozen generator")
    if train.num_real:
        images.append(f"{real.num_samples['train']:,} real images without labels")
    method = _LESSONS.get(train.method.name, train.method.name)
    sentence = f"{method}: the student learned from {' and from '.join(images)}."
    if real.num_available is None:
        return sentence
    gan = ""
    if train.num_synthetic:
        known = "unknown images" if num_teacher is None else f"{num_teacher:,} real images"
        gan = f" The generator was trained on {known}."
    tested = ""
    if config.real.test_from == "train":
        tested = f" It is tested on the {real.num_samples['test']:,} train images left out."
    return (
        f"{sentence} The {real.num_samples['train']:,} real images are drawn from "
        f"{real.num_available:,}, and no other was used to fit its probes.{tested}{gan}"
    )
