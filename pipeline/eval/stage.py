"""`python -m pipeline eval CONFIG`: student -> results, beside two baselines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.cluster import monitoring
from pipeline.config.root import Config
from pipeline.eval.numbers import accuracy_rows, append_numbers, domain_rows
from pipeline.records.ancestors import require_ancestors
from pipeline.records.digests import file_digest
from pipeline.records.products import Files, is_intact, pool_shards, real_shards
from pipeline.records.record import Record, find_complete, write_record
from pipeline.records.spec import Spec
from pipeline.results.ledger import is_appended
from pipeline.terminal.progress import console, progress_bar
from shards.atomic import write_atomic
from shards.errors import NotApplicable, UserError
from shards.verify import verified

RESULTS_FILE = "results.json"
NEIGHBOURS_FILE = "neighbours.json"
DOMAINS_FILE = "domains.json"
CONFUSION_FILE = "confusion.json"
EMBEDDING_FILE = "embedding.json"
CURVES_FILE = "curves.json"
_ALWAYS = {RESULTS_FILE, NEIGHBOURS_FILE, DOMAINS_FILE, CONFUSION_FILE, CURVES_FILE}


def find(config: Config) -> Record[Files] | None:
    """Record of this run's evaluation, None if there is none or a file is not as it was left."""
    spec = _spec(config)
    record = find_complete(config.run_dir / "eval", spec, Files)
    if record is None or not record.outputs.keys() >= _ALWAYS:
        return None
    is_there = all(is_intact(_place(config, name), d) for name, d in record.outputs.items())
    is_recorded = is_appended(config.paths.runs, config.name, spec.fingerprint)
    return record if is_there and is_recorded else None


def run(config: Config) -> None:
    """Measure everything, append it to the ledger, and write the files that show it."""
    from pipeline.engine.device import choose_device
    from pipeline.eval.pictures import count_confusions
    from pipeline.eval.probes.probe import check_few_labels
    from pipeline.eval.subjects import labelled_images

    spec = _spec(config)
    device = choose_device(config.hardware.device)
    images = labelled_images(config)
    check_few_labels(config.eval, images.train_labels)
    scores = list(_scores(config, images, device))
    domains = list(_compare_domains(config, images, device))
    names = {*_ALWAYS, EMBEDDING_FILE} if _embed(config, images) else _ALWAYS
    accuracies = [score.top1 for score in scores]
    numbers = append_numbers(config, spec.fingerprint, accuracies, domains, str(device))
    curves = {score.top1.representation: score.curve for score in scores if score.curve}
    contents = {
        RESULTS_FILE: accuracy_rows(numbers, curves),
        DOMAINS_FILE: domain_rows(numbers),
        CONFUSION_FILE: count_confusions(config, scores, images.test_labels),
        CURVES_FILE: curves,
    }
    for name, content in contents.items():
        write_atomic(_place(config, name), json.dumps(content, indent=2) + "\n")
    files = {name: file_digest(_place(config, name)) for name in sorted(names)}
    write_record(config.run_dir / "eval", spec, files)


def _place(config: Config, name: str) -> Path:
    """Of one of the files that the stage leaves."""
    return (config.run_dir if name == RESULTS_FILE else config.run_dir / "eval") / name


def _scores(config: Config, images: Any, device: Any) -> Iterator[Any]:
    """Of every probe of every representation, with a progress bar."""
    from pipeline.eval.pictures import find_neighbours
    from pipeline.eval.probes.labelled_views import LabelledShards
    from pipeline.eval.probes.probe import list_jobs
    from pipeline.eval.probes.run import run_jobs
    from pipeline.eval.probes.sgd_training import run_sgd_probe
    from pipeline.eval.subjects import subjects

    jobs, probes = list_jobs(config.eval), config.eval.probes
    num_subjects = 3 if config.eval.baselines else 1
    with progress_bar("probes") as bar:
        task = bar.add_task("eval", total=len(jobs) * num_subjects, note="")
        for subject in subjects(config, images, device):
            name = subject.representation.name
            for score in run_jobs(jobs, subject.representation, config):
                yield score
                bar.update(task, advance=1, note=_note(score))
                monitoring.count("probes_fitted", 1, config.name)
            if name == "student":
                neighbours = find_neighbours(
                    config, subject.representation, images.test_rows, device
                )
                write_atomic(_place(config, NEIGHBOURS_FILE), json.dumps(neighbours))
            if "linear_sgd" in probes and subject.backbone is not None:
                places = (real_shards(config, split) for split in ("train", "test"))
                labelled = LabelledShards.of(images, *places)
                folder = config.run_dir / "eval" / f"linear_sgd-{name}"
                score = run_sgd_probe(name, subject.backbone, labelled, config, folder)
                yield score


def _note(score: Any) -> str:
    found = score.top1
    return f"{found.representation} {found.probe} {found.labels} {found.value:.1f}"


def _compare_domains(config: Config, images: Any, device: Any) -> Iterator[Any]:
    """Real and synthetic images, where the student saw a pool of the latter."""
    if not config.train.reads_pool or not config.eval.domain_samples:
        return
    from pipeline.eval.domains.compare import METRICS, Domains, compare_domains
    from pipeline.eval.subjects import cache_folder, load_student
    from pipeline.student.view_size import SizedImages
    from pipeline.teacher.quality import build_feature_space

    synthetic = verified(pool_shards(config, config.eval.domain_samples).open().images)
    seed = config.eval.seeds[0]
    readers = {"train": images.train, "test": images.test, "synthetic": synthetic}
    sized = {name: SizedImages(reader, config.view_size) for name, reader in readers.items()}
    domains = Domains(sized, config.eval.domain_samples, seed)
    if not domains.are_comparable:
        return
    space = build_feature_space(config.teacher.inception_weights, device)
    with progress_bar("measures") as bar:
        task = bar.add_task("domains", total=len(METRICS), note="")
        student, cache = load_student(config), cache_folder(config)
        for number in compare_domains(domains, student, space, config.train, device, cache):
            yield number
            bar.update(task, advance=1, note=f"{number.metric} {number.value:.3g}")


def _embed(config: Config, images: Any) -> bool:
    """Leave the embedding plot's coordinates, where a pool has enough samples; whether it did."""
    path, num_samples = _place(config, EMBEDDING_FILE), config.eval.embedding_samples
    path.unlink(missing_ok=True)
    if not config.train.reads_pool or not num_samples:
        return False
    from pipeline.eval.domains.embedding import MIN_SAMPLES
    from pipeline.eval.domains.embedding_plot import SPACES, embed_all
    from pipeline.records.embeddings import write_embeddings

    if min(len(pool_shards(config).open()), num_samples) < MIN_SAMPLES:
        return False
    try:
        with progress_bar("spaces") as bar:
            task = bar.add_task("embedding", total=len(SPACES), note="")

            def report(name: str, total: int) -> None:
                bar.update(task, advance=1, total=total, note=name)

            found = embed_all(config, images, num_samples, report)
        write_embeddings(path, found)
        return True
    except UserError as error:  # the teacher may be gone, and the numbers are there
        console.print(f"eval      no embedding plot: {error}", soft_wrap=True)
        return False


def describe(config: Config, record: Record[Files]) -> str:
    """One line for the terminal."""
    return str(_place(config, RESULTS_FILE))


def _spec(config: Config) -> Spec:
    origin = require_ancestors(config)
    real = origin.real.outputs
    if real.num_samples["test"] == 0 or not real.class_names:
        raise NotApplicable(
            "real.path: evaluation needs train and test images with labels, such as one folder per "
            "class in either; there are none"
        )
    inputs = {
        "student": origin.student.outputs.digest,
        "real train": real.digests["train"],
        "real test": real.digests["test"],
    }
    if config.train.view_size is not None:
        inputs["view size"] = str(config.view_size)
    if origin.pool is not None:
        inputs["pool"] = origin.pool.outputs.digest
    return Spec.of("eval", config.eval, inputs)
