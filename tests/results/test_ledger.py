"""The ledger: what is appended is read again, by any reader of Parquet, whoever else appends or
dies meanwhile.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline.results.ledger import (
    LEDGER,
    SUPERSEDED,
    append,
    is_appended,
    list_runs,
    part_path,
    read_ledger,
)
from shards.errors import UserError
from tests.support.ledger_numbers import START, draws, number
from tests.support.workspace import ROOT

FINGERPRINT = "f" * 64


def parts(runs: Path) -> list[Path]:
    return sorted((runs / LEDGER).glob("*.parquet"))


def test_numbers_appended_are_read_again_as_they_were(tmp_path: Path) -> None:
    numbers = [
        *draws([1 / 3, 2e-17, -5.0]),
        number(low=82.0, high=84.5, metric="mAP"),
        number(student_digest=None, pool_key=None, pool_size=None, train_seed=None, commit="c0ffee",
               representation="raw_pixels"),
    ]  # fmt: skip
    path = append(tmp_path, FINGERPRINT, numbers)
    assert path.parent == tmp_path / LEDGER
    assert read_ledger(tmp_path) == numbers


def test_ledger_is_one_table_to_pyarrow_and_pandas(tmp_path: Path) -> None:
    append(tmp_path, FINGERPRINT, draws([50.0, 52.0]))
    append(tmp_path, FINGERPRINT, draws([50.0, 53.0]))  # supersedes them
    append(tmp_path, "e" * 64, [number(60.0, run="wide")])
    (tmp_path / LEDGER / ".of-a-writer-at-work.parquet.tmp").write_bytes(b"PAR1")
    table = ds.dataset(tmp_path / LEDGER).to_table()
    assert sorted(table["value"].to_pylist()) == [50.0, 53.0, 60.0]
    frame = pd.read_parquet(tmp_path / LEDGER)
    assert sorted(frame["value"]) == [50.0, 53.0, 60.0]
    assert frame["created_at"].iloc[0] == START
    assert table.schema.field("seed").type == pa.int64()
    assert not table.schema.field("protocol").nullable


def test_ledger_says_which_schema_and_evaluation_it_is_of(tmp_path: Path) -> None:
    metadata = pq.read_schema(append(tmp_path, FINGERPRINT, [number()])).metadata
    assert metadata[b"schema_version"] == b"3"
    assert metadata[b"fingerprint"] == FINGERPRINT.encode()


def test_same_evaluation_again_doubles_nothing_and_touches_nothing(tmp_path: Path) -> None:
    path = append(tmp_path, FINGERPRINT, draws([50.0, 52.0]))
    before = path.stat().st_mtime_ns
    later = [replace(n, commit="other", device="cuda") for n in draws([50.0, 52.0], minutes=9)]
    assert append(tmp_path, FINGERPRINT, later) == path
    assert path.stat().st_mtime_ns == before
    assert read_ledger(tmp_path) == draws([50.0, 52.0])


def test_same_evaluation_with_other_values_replaces_and_keeps_the_old(tmp_path: Path) -> None:
    path = append(tmp_path, FINGERPRINT, draws([50.0, 52.0]))
    old = path.read_bytes()
    append(tmp_path, FINGERPRINT, draws([50.0, 99.0], minutes=1))
    assert [n.value for n in read_ledger(tmp_path)] == [50.0, 99.0]
    (kept,) = (tmp_path / LEDGER / SUPERSEDED).iterdir()
    assert kept.read_bytes() == old


def test_runs_with_the_same_fingerprint_have_parts_of_their_own(tmp_path: Path) -> None:
    append(tmp_path, FINGERPRINT, [number()])
    append(tmp_path, FINGERPRINT, [number(run="copy")])
    assert {n.run for n in read_ledger(tmp_path)} == {"digits", "copy"}


def test_read_ledger_of_a_run_reads_its_parts_alone(tmp_path: Path) -> None:
    for name in ("digits", "digits-2"):
        append(tmp_path, "f" * 64, [number(50.0, run=name)])
    part_path(tmp_path, "digits-2", "f" * 64).write_bytes(b"half")
    (tmp_path / LEDGER / "foreign.parquet").write_bytes(b"?")
    assert [n.run for n in read_ledger(tmp_path, ["digits"])] == ["digits"]
    assert list_runs(tmp_path) == ["digits-2", "digits", "foreign"]
    with pytest.raises(UserError, match="digits-2"):
        read_ledger(tmp_path, ["digits", "digits-2"])


def test_read_ledger_gives_the_earliest_evaluation_first(tmp_path: Path) -> None:
    append(tmp_path, "1" * 64, [number(run="a", minutes=5)])
    append(tmp_path, "2" * 64, [number(run="b", minutes=2)])
    assert [n.run for n in read_ledger(tmp_path)] == ["b", "a"]
    assert read_ledger(tmp_path / "nothing") == []


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([], "has numbers"),
        ([number(), number(run="b", seed=1)], "of one run"),
        ([number(1.0), number(2.0)], "same measurement"),
        ([number(float("nan"))], "not finite"),
        ([number(1.0, low=0.0, high=float("inf"))], "not finite"),
    ],
)
def test_append_refuses_what_is_no_evaluation(tmp_path: Path, numbers: list, words: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match=words):
        append(tmp_path, FINGERPRINT, numbers)
    assert not (tmp_path / LEDGER).exists()


WRITER = """
import sys
from pathlib import Path
from pipeline.results.ledger import append
from tests.support.ledger_numbers import draws
print("ready", flush=True)
for index in range(int(sys.argv[3])):
    append(Path(sys.argv[1]), f"{sys.argv[2]}{index:06d}".ljust(64, "0"),
           draws(range(50), run=sys.argv[2], epochs=index))
"""


def start_writer(runs: Path, name: str, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, str(runs), name, str(count)]
    writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    return writer


@pytest.mark.slow
def test_commands_that_append_at_once_lose_nothing_and_one_killed_leaves_whole_parts(
    tmp_path: Path,
) -> None:
    doomed = start_writer(tmp_path, "doomed", 10**6)
    writers = [start_writer(tmp_path, name, 20) for name in ("one", "two")]
    for writer in writers:
        assert writer.wait(60) == 0
    deadline = time.monotonic() + 60
    while len(list((tmp_path / LEDGER).glob("doomed*"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    doomed.kill()
    doomed.wait()
    for writer in (doomed, *writers):
        assert writer.stdout is not None
        writer.stdout.close()
    numbers = read_ledger(tmp_path)
    for name in ("one", "two"):
        found = {(n.epochs, n.seed) for n in numbers if n.run == name}
        assert found == {(index, seed) for index in range(20) for seed in range(50)}
    of_doomed = [n.epochs for n in numbers if n.run == "doomed"]
    assert len(of_doomed) == 50 * len(set(of_doomed)) > 0


def test_damaged_part_is_named_with_the_run_to_evaluate_again(tmp_path: Path) -> None:
    append(tmp_path, FINGERPRINT, draws([50.0, 52.0]))
    path = append(tmp_path, "e" * 64, draws([60.0, 61.0], run="wide-er"))
    content = path.read_bytes()
    damages = {
        "empty": b"",
        "cut": content[: len(content) // 2],
        "text": b"no Parquet",
        "flipped": content[:200] + bytes([content[200] ^ 255]) + content[201:],
    }
    for name, damaged in damages.items():
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged") as raised:
            read_ledger(tmp_path)
        message = str(raised.value)
        assert message.startswith(f"{path}: "), name
        assert f"{tmp_path / 'wide-er'}," in message
        assert "\n" not in message
        assert not is_appended(tmp_path, "wide-er", "e" * 64)
    append(tmp_path, "e" * 64, draws([60.0, 61.0], run="wide-er"))
    assert path.read_bytes() == content
    assert is_appended(tmp_path, "wide-er", "e" * 64)
    assert not is_appended(tmp_path, "wide-er", "d" * 64)


def test_part_of_another_version_or_table_is_named(tmp_path: Path) -> None:
    path = append(tmp_path, FINGERPRINT, [number()])
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"schema_version": "4"}), path)
    with pytest.raises(UserError, match="schema 4, this version reads 3"):
        read_ledger(tmp_path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(UserError, match="not a part of this ledger"):
        read_ledger(tmp_path)
    assert path == part_path(tmp_path, "digits", FINGERPRINT)


def rewrite_as(path: Path, schema: int, *lacking: str) -> None:
    """The part as an earlier version wrote it."""
    table = pq.read_table(path).drop_columns(list(lacking))
    metadata = {**table.schema.metadata, b"schema_version": str(schema).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path)


def test_part_of_schema_1_is_of_joint_batch_normalisation(tmp_path: Path) -> None:
    path = append(tmp_path, FINGERPRINT, [number(), number(labels="few", variant="")])
    rewrite_as(path, 1, "batch_norm", "expected", "p_value")
    expected = [number(batch_norm="joint"), number(labels="few", variant="", batch_norm="")]
    assert read_ledger(tmp_path) == expected


def test_part_of_schema_2_has_neither_expected_values_nor_p_values(tmp_path: Path) -> None:
    path = append(tmp_path, FINGERPRINT, [number(expected=1.0, p_value=0.5)])
    rewrite_as(path, 2, "expected", "p_value")
    assert read_ledger(tmp_path) == [number()]


@pytest.mark.parametrize("position", range(10, 4000, 397))
def test_flipped_byte_never_changes_a_number_unseen(tmp_path: Path, position: int) -> None:
    numbers = draws([50.0, 52.0, 54.0])
    path = append(tmp_path, FINGERPRINT, numbers)
    content = bytearray(path.read_bytes())
    content[position] ^= 64
    path.write_bytes(bytes(content))
    try:
        found = read_ledger(tmp_path)
    except UserError:
        return
    assert found == numbers
