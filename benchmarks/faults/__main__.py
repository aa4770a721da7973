"""`python -m benchmarks.faults [ROW …] [--json FILE]`: the table of docs/faults.md.

Every row runs a small config on several hosts with a Ray node each, undisturbed and disturbed, and
compares what the two leave. Wants root on Linux; takes a minute or two a row.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.faults.hosts import bring_up, environment, no_hosts_left
from benchmarks.faults.rows import FaultRow, list_rows
from benchmarks.faults.runs import (
    RunFolders,
    RunningStage,
    digests,
    largest_difference,
    make_place,
    prepare_base,
)
from benchmarks.faults.s3_server import BUCKET, S3Server
from benchmarks.measure import ResultTable, console
from pipeline.records.environment import current_commit, installed_versions
from shards.atomic import write_atomic
from shards.errors import UserError

_TOLERANCE = 0.01


@dataclass(frozen=True)
class MeasuredRow:
    """A row as it was measured."""

    row: str
    command: str
    fault: str
    verdict: str
    is_equal: bool
    """Digests, or losses within `_TOLERANCE`."""
    exit_codes: tuple[int, ...] = ()
    """Of the disturbed command, and of its repetition where there was one."""
    undisturbed_s: float = 0
    disturbed_s: float = 0
    """Both commands, where it was typed again."""


class _Bench:
    """Rows measured against undisturbed runs, each of which is made once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._undisturbed: dict[tuple[object, ...], tuple[RunFolders, float]] = {}

    def measure(self, row: FaultRow) -> MeasuredRow:
        """Run both and compare."""
        straight, undisturbed_s = self._run_straight(row)
        place = self._place(row, row.name)
        bring_up(row.num_hosts)
        command = RunningStage(place, row.stage, row.overrides)
        fault = row.disturb(command)
        codes, seconds = [command.result()], command.age_s
        if codes[0]:
            console.print(
                f"{row.name}: exit code {codes[0]}, said {command.last_line}", soft_wrap=True
            )
            bring_up(row.num_hosts)
            command = RunningStage(place, row.stage, (*row.overrides, *row.again))
            codes.append(command.result())
            seconds += command.age_s
        verdict, is_equal = _compare(row, place, straight)
        if codes[0] and not row.ends:
            verdict = f"command ended with code {codes[0]}; typed again: {verdict}"
        shown = " ".join(["python", *place.arguments(row.stage, row.overrides)])
        return MeasuredRow(
            row.name,
            shown.replace(str(self._root), "TMP"),
            fault,
            verdict,
            is_equal,
            tuple(codes),
            round(undisturbed_s, 1),
            round(seconds, 1),
        )

    def _run_straight(self, row: FaultRow) -> tuple[RunFolders, float]:
        """Once for each stage, whose rows differ in nothing that changes its result."""
        key = (row.stage, row.num_hosts, row.on_s3)
        if key not in self._undisturbed:
            place = self._place(row, f"straight-{len(self._undisturbed)}")
            bring_up(row.num_hosts)
            command = RunningStage(place, row.stage, row.overrides)
            if command.result():
                raise UserError(f"{row.name}: failed undisturbed: {command.last_line}")
            self._undisturbed[key] = place, command.age_s
        return self._undisturbed[key]

    def _place(self, row: FaultRow, name: str) -> RunFolders:
        store = f"s3://{BUCKET}/{name}" if row.on_s3 else None
        return make_place(self._root, name, row.stage, store)


def _compare(row: FaultRow, place: RunFolders, straight: RunFolders) -> tuple[str, bool]:
    if row.compares_losses:
        difference = largest_difference(place, straight)
        return f"losses within {difference:.1e}", difference < _TOLERANCE
    found, expected = digests(place, row.stage), digests(straight, row.stage)
    if not expected:
        raise UserError(f"{row.name}: the undisturbed run left nothing")
    same = sum(found.get(name) == digest for name, digest in expected.items())
    return f"{same} of {len(expected)} digests equal", found == expected


def main() -> int:
    """Measure the rows named, all by default; exit code 1 if something differs."""
    server = S3Server()
    rows = {row.name: row for row in list_rows(server)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(rows)}")
    parser.add_argument("--json", type=Path, help="file for what was found")
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(rows):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    chosen = [rows[name] for name in arguments.rows or rows]
    outcomes: list[MeasuredRow] = []
    os.environ.update(environment())  # the digests of a bucket are taken here
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch, no_hosts_left():
        root = Path(scratch).resolve()
        prepare_base(root, {row.stage for row in chosen})
        bring_up(2)
        server.start()
        bench = _Bench(root)
        try:
            for row in chosen:
                try:
                    outcome = bench.measure(row)
                except RuntimeError as error:
                    outcome = MeasuredRow(row.name, "", "", f"not measured: {error}", False)
                console.print(f"{row.name}: {outcome.fault}: {outcome.verdict}", soft_wrap=True)
                outcomes.append(outcome)
                if arguments.json:
                    _write(arguments.json, outcomes)
        finally:
            server.stop()
    headings = ("row", "what was done", "result", "undisturbed, s", "disturbed, s", "lost, s")
    ResultTable("faults", headings, [_cells(outcome) for outcome in outcomes]).show()
    return 0 if all(outcome.is_equal for outcome in outcomes) else 1


def _write(path: Path, outcomes: list[MeasuredRow]) -> None:
    content = {
        "rows": [asdict(outcome) for outcome in outcomes],
        "command": " ".join(["python", "-m", "benchmarks.faults", *sys.argv[1:]]),
        "commit": current_commit(),
        "versions": installed_versions(),
    }
    write_atomic(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _cells(outcome: MeasuredRow) -> tuple[str | float, ...]:
    lost = outcome.disturbed_s - outcome.undisturbed_s
    seconds = (outcome.undisturbed_s, outcome.disturbed_s, lost)
    return (outcome.row, outcome.fault, outcome.verdict, *(round(value) for value in seconds))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as problem:
        console.print(f"error: {problem}", soft_wrap=True)
        sys.exit(2)
