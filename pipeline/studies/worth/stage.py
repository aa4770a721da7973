"""`python -m pipeline worth CONFIG`: what a teacher adds to real images of one's own.

Each training is an ordinary run under `runs/NAME/worth/`. Neighbours: `trainings.py` lists them,
`cells` runs them, `page.py` shows what they left.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.file import load_config
from pipeline.config.root import Config
from pipeline.records.log import logged
from pipeline.records.products import RealImages
from pipeline.results.query import MUST_AGREE
from pipeline.stages import load_stage, needed_stages, run_stage
from pipeline.studies.cells import Cell, is_done, print_cells, run_cells
from pipeline.studies.collect import Outcome, read_outcomes
from pipeline.studies.worth.trainings import METHODS, WORTH, Plan, Trial, Tuning, choose_rates
from pipeline.terminal.progress import console
from shards.errors import UserError

_OF_ANY_IMAGES = tuple(name for name in MUST_AGREE if name != "split_digest")
"""What numbers share that are of other images: every seed draws its own."""


def run_worth(path: Path, changes: Sequence[str], dry_run: bool = False) -> bool:
    """Bring all trainings up to date, those that choose learning rates first, and write what came
    of them.

    Returns:
        Whether all trainings could be run; of the learning rates one for each method suffices.

    Raises:
        UserError: for images without labels, and for numbers of images that there are not.
    """
    base = load_config(path, changes)
    if base.real.limit is not None:
        raise UserError("real.limit: here worth.sizes are the numbers of real images; leave it out")
    if dry_run and load_stage("real").find(base) is None:
        console.print("real      to do; run it to list the trainings")
        return True
    plan = Plan(path, changes, _count_images(base))
    plan.size_trials({})  # refuses sizes before anything long begins
    trials = plan.tuning_trials() if len(plan.rates) > 1 else []
    tuning_cells = plan.cells(trials)
    if dry_run:
        print_cells(tuning_cells)
        chosen = _rates(_tune(plan, trials, tuning_cells))
        print_cells(
            plan.cells(plan.size_trials({m: chosen.get(m, plan.rates[0]) for m in METHODS}))
        )
        return True
    for name in needed_stages(base):
        if name in ("real", "teacher", "generate") and load_stage(name).find(base) is None:
            run_stage(name, base)
    with logged(base.run_dir, WORTH):
        ended = run_cells(tuning_cells, base.ray, "learning rates")
        tunings = _tune(plan, trials, tuning_cells)
        problems = {
            t.row: ended[t.row] for t in trials if t.row in ended and t.method not in tunings
        }
        sizes = plan.size_trials(_rates(tunings))
        cells = plan.cells(sizes)
        problems |= run_cells(cells, base.ray, "sizes")
    from pipeline.studies.worth.page import write_worth

    for file in write_worth(plan, sizes, tunings, _outcomes(cells), problems):
        console.print(f"worth     {file}", soft_wrap=True)
    return not problems


def _count_images(base: Config) -> int:
    """Labelled train images, packed if they are not yet."""
    stage = load_stage("real")
    images: RealImages = (stage.find(base) or run_stage("real", base)).outputs
    if not images.class_names or not images.num_samples["test"]:
        raise UserError(
            "real.path: what a teacher adds is measured as accuracy, which needs labels; put images"
            " in one sub-folder per class under train/ and test/"
        )
    return images.num_samples["train"]


def _tune(plan: Plan, trials: Sequence[Trial], cells: Sequence[Cell]) -> dict[str, Tuning]:
    """By method; the one rate that there is without trials."""
    if not trials:
        return {method: Tuning({}, plan.rates[0]) for method in METHODS}
    return choose_rates(trials, _outcomes(cells), len(plan.base.worth.tuning_seeds))


def _rates(tunings: dict[str, Tuning]) -> dict[str, float]:
    return {method: tuning.chosen for method, tuning in tunings.items()}


def _outcomes(cells: Sequence[Cell]) -> list[Outcome]:
    """Of those with results of these settings, not of earlier ones."""
    return read_outcomes([cell for cell in cells if is_done(cell)], _OF_ANY_IMAGES)
