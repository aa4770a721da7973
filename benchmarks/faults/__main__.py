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

from rich.console import Console
from rich.table import Table

from benchmarks.faults.hosts import bring_up, environment, no_hosts_left
from benchmarks.faults.rows import Row, list_rows
from benchmarks.faults.runs import (
    Command,
    Place,
    digests,
    largest_difference,
    make_place,
    prepare_base,
    said_last,
)
from benchmarks.faults.s3_server import BUCKET, S3Server
from pipeline.records.record import current_commit, installed_versions
from shards.atomic import write_atomic
from shards.errors import UserError

console = Console(width=160 if not sys.stdout.isatty() else None, highlight=False)


@dataclass(frozen=True)
class Outcome:
    """A row as it was measured."""

    row: str
    command: str
    fault: str
    verdict: str
    is_equal: bool
    """Digests, or losses within `_TOLERANCE`."""
    exit_codes: tuple[int, ...]
    """Of the disturbed command, and of its repetition where there was one."""
    undisturbed_s: float
    disturbed_s: float
    """Both commands, where it was typed again."""


@dataclass(frozen=True)
class _Undisturbed:
    place: Place
    digests: dict[str, str]
    seconds: float


_TOLERANCE = 0.01


class _Bench:
    """Rows measured against undisturbed runs, each of which is made once."""

    def __init__(self, root: Path, server: S3Server) -> None:
        self._root = root
        self._server = server
        self._undisturbed: dict[tuple[object, ...], _Undisturbed] = {}

    def measure(self, row: Row) -> Outcome:
        """Run both and compare."""
        straight = self._straight(row)
        place = self._place(row, row.name)
        bring_up(row.num_hosts)
        command = Command(place, row.stage, row.overrides)
        fault = row.disturb(command)
        codes, seconds = [command.result()], command.age_s
        if codes[0]:
            console.print(f"{row.name}: exit code {codes[0]}, said {said_last(command.log)}")
            bring_up(row.num_hosts)
            command = Command(place, row.stage, (*row.overrides, *row.again))
            codes.append(command.result())
            seconds += command.age_s
        verdict, is_equal = self._compare(row, place, straight)
        if codes[0] and not row.ends:
            verdict = f"command ended with code {codes[0]}; typed again: {verdict}"
        shown = " ".join(["python", *place.arguments(row.stage, row.overrides)])
        return Outcome(
            row=row.name,
            command=shown.replace(str(self._root), "TMP"),
            fault=fault,
            verdict=verdict,
            is_equal=is_equal,
            exit_codes=tuple(codes),
            undisturbed_s=round(straight.seconds, 1),
            disturbed_s=round(seconds, 1),
        )

    def _straight(self, row: Row) -> _Undisturbed:
        """Rows of a stage differ in nothing that changes its result."""
        key = (row.stage, row.num_hosts, row.on_s3)
        if key not in self._undisturbed:
            place = self._place(row, f"straight-{len(self._undisturbed)}")
            bring_up(row.num_hosts)
            command = Command(place, row.stage, row.overrides)
            if command.result():
                raise UserError(f"{row.name}: failed undisturbed: {said_last(command.log)}")
            found = digests(place, row.stage)
            self._undisturbed[key] = _Undisturbed(place, found, command.age_s)
        return self._undisturbed[key]

    def _place(self, row: Row, name: str) -> Place:
        store = f"s3://{BUCKET}/{name}" if row.on_s3 else None
        return make_place(self._root, name, row.stage, store)

    def _compare(self, row: Row, place: Place, straight: _Undisturbed) -> tuple[str, bool]:
        if row.compares_losses:
            difference = largest_difference(place, straight.place)
            return f"losses within {difference:.1e}", difference < _TOLERANCE
        found = digests(place, row.stage)
        if not straight.digests:
            raise UserError(f"{row.name}: the undisturbed run left nothing")
        same = sum(found.get(name) == digest for name, digest in straight.digests.items())
        is_equal = found == straight.digests
        return f"{same} of {len(straight.digests)} digests equal", is_equal


def main() -> int:
    """Measure the rows named, all by default; exit code 1 if something differs."""
    server = S3Server()
    rows = {row.name: row for row in list_rows(server)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(rows)}")
    parser.add_argument("--json", type=Path, help="file for what was found")
    parser.add_argument("--keep", type=Path, help="folder for stores, runs and logs; else removed")
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(rows):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    chosen = [rows[name] for name in arguments.rows or rows]
    outcomes = []
    os.environ.update(environment())  # the digests of a bucket are taken here
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch, no_hosts_left():
        root = (arguments.keep or Path(scratch)).resolve()
        root.mkdir(parents=True, exist_ok=True)
        prepare_base(root, {row.stage for row in chosen})
        bring_up(2)
        server.start()
        bench = _Bench(root, server)
        try:
            for row in chosen:
                try:
                    outcome = bench.measure(row)
                except RuntimeError as error:
                    outcome = Outcome(row.name, "", "", f"not measured: {error}", False, (), 0, 0)
                console.print(f"{row.name}: {outcome.fault}: {outcome.verdict}")
                outcomes.append(outcome)
                if arguments.json:
                    _write(arguments.json, outcomes)
        finally:
            server.stop()
    console.print(_table(outcomes))
    return 0 if all(outcome.is_equal for outcome in outcomes) else 1


def _write(path: Path, outcomes: list[Outcome]) -> None:
    content = {
        "rows": [asdict(outcome) for outcome in outcomes],
        "command": " ".join(["python", "-m", "benchmarks.faults", *sys.argv[1:]]),
        "commit": current_commit(),
        "versions": installed_versions(),
    }
    write_atomic(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _table(outcomes: list[Outcome]) -> Table:
    table = Table("row", "what was done", "result", title="faults")
    for heading in ("undisturbed, s", "disturbed, s", "lost, s"):
        table.add_column(heading, justify="right")
    for outcome in outcomes:
        lost = outcome.disturbed_s - outcome.undisturbed_s
        seconds = (outcome.undisturbed_s, outcome.disturbed_s, lost)
        figures = [f"{value:.0f}" for value in seconds]
        table.add_row(outcome.row, outcome.fault, outcome.verdict, *figures)
    return table


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as problem:
        console.print(f"error: {problem}", soft_wrap=True)
        sys.exit(2)
