"""Runs that render one pool at once keep out of each other's way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from shards import claims as claims_module
from shards.claims import CLAIMS_FOLDER, Claims, is_in_use
from shards.storage import Folder
from tests.support.shard_sets import of_others

ROOT = Path(__file__).parents[2]


def list_claims(pool: Folder) -> list[str]:
    return sorted((pool / CLAIMS_FOLDER).list_files())


# Two runs


def test_claims_shard_of_one_run_is_not_given_to_another(pool: Folder) -> None:
    with Claims(pool) as first, Claims(pool) as second:
        assert first.take(3)
        assert not second.take(3)
        assert second.take(4)
        assert not first.take(4)
        assert (of_others(first), of_others(second)) == ({4}, {3})


def test_claims_shard_given_up_may_be_taken_by_another(pool: Folder) -> None:
    with Claims(pool) as first, Claims(pool) as second:
        for index in (1, 2):
            assert first.take(index)
        first.release([1])
        assert second.take(1)
        assert not second.take(2)
        assert of_others(first) == {1}


def test_claims_vanish_with_the_end_of_their_run(pool: Folder) -> None:
    with Claims(pool) as first:
        with Claims(pool) as second:
            second.take(5)
            assert of_others(first) == {5}
        assert of_others(first) == set()
        assert first.take(5)
    assert list_claims(pool) == []


def test_pool_is_in_use_while_a_run_has_its_file_there(pool: Folder) -> None:
    assert not is_in_use(pool)
    with Claims(pool):
        assert is_in_use(pool)
    assert not is_in_use(pool)
    with run_that_claims(pool) as process:
        assert is_in_use(pool)
        process.kill()
        process.wait()
        assert not is_in_use(pool)


def test_claims_vanish_when_their_run_fails(pool: Folder) -> None:
    def fail() -> None:
        with Claims(pool) as claims:
            claims.take(0)
            raise RuntimeError("failed")

    with pytest.raises(RuntimeError, match="failed"):
        fail()
    assert list_claims(pool) == []


@dataclass(frozen=True)
class MeetingFolder(Folder):
    """Another run's work happens right before the next file is written here."""

    others: list[Callable[[], object]] = field(default_factory=list)

    def __truediv__(self, name: str) -> MeetingFolder:
        return replace(self, url=f"{self.url}/{name}")

    def write(self, name: str, content: bytes, is_durable: bool = True) -> None:
        others = list(self.others)
        self.others.clear()
        for work in others:
            work()
        super().write(name, content, is_durable)


@pytest.mark.parametrize("attempt", range(8))  # which of the two comes first by name is chance
def test_claims_of_two_runs_in_the_same_moment_are_not_both_granted(
    local_pool: Folder, attempt: int
) -> None:
    """The second looks whether the shard is free, the first takes it, the second takes it."""
    granted: list[bool] = []
    meeting = MeetingFolder(local_pool.url)
    with Claims(local_pool) as first, Claims(meeting) as second:
        meeting.others.append(lambda: granted.append(first.take(7)))
        granted.append(second.take(7))
        assert granted == [True, False]
        assert (of_others(first), of_others(second)) == (set(), {7})


@pytest.mark.slow
def test_claims_of_threads_that_race_are_never_shared(local_pool: Folder) -> None:
    num_runs, num_shards = 3, 8
    with ExitStack() as stack:
        runs = [stack.enter_context(Claims(local_pool)) for _ in range(num_runs)]

        def take_all(run: Claims) -> list[int]:
            return [index for index in range(num_shards) if run.take(index)]

        with ThreadPoolExecutor(num_runs) as threads:
            taken = list(threads.map(take_all, runs))
    everything = [index for indices in taken for index in indices]
    assert len(everything) == len(set(everything))


# Runs that died

CLAIM = """
import sys, time
from shards.claims import Claims
from shards.storage import Folder
with Claims(Folder.at(sys.argv[1])) as claims:
    claims.take(3)
    print("taken", flush=True)
    time.sleep(600)
"""


@contextmanager
def run_that_claims(pool: Folder) -> Iterator[subprocess.Popen[str]]:
    """Another process with a claim on shard 3."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIM, pool.url], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_claims_of_a_killed_process_vanish_at_once(pool: Folder) -> None:
    with run_that_claims(pool) as process, Claims(pool) as claims:
        assert of_others(claims) == {3}
        assert not claims.take(3)
        process.kill()
        process.wait()
        assert claims.take(3)
        assert len(list_claims(pool)) == 1


def test_claims_of_a_silent_run_on_another_machine_vanish_after_a_while(
    local_pool: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_module, "SILENT_S", 0.4)
    write_foreign(local_pool, shards=[3])
    with Claims(local_pool) as claims:
        assert of_others(claims) == {3}
        time.sleep(0.2)
        assert not claims.take(3)
        time.sleep(0.3)
        assert claims.take(3)
        assert len(list_claims(local_pool)) == 1


@pytest.mark.slow
def test_claims_of_a_run_on_another_machine_stay_while_it_beats(
    local_pool: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_module, "SILENT_S", 0.5)
    with Claims(local_pool) as claims:
        for beat in range(6):
            write_foreign(local_pool, shards=[3], beat=beat)
            assert of_others(claims) == {3}
            time.sleep(0.2)


def test_claims_beat_by_themselves(local_pool: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_module, "BEAT_S", 0.05)

    def read_beat() -> int:
        (name,) = list_claims(local_pool)
        return int(json.loads((local_pool / CLAIMS_FOLDER).read(name))["beat"])

    with Claims(local_pool):
        first, deadline = read_beat(), time.monotonic() + 10
        while read_beat() < first + 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def write_foreign(pool: Folder, shards: list[int], beat: int = 1, pid: int = 1) -> None:
    """The claims of a run on another machine."""
    claim = {"process": {"machine": "elsewhere", "pid": pid}, "beat": beat, "shards": shards}
    (pool / CLAIMS_FOLDER).write("0123456789ab.json", json.dumps(claim).encode())


def machine_of(pool: Folder) -> str:
    """This machine, as its runs name it in their claims."""
    with Claims(pool):
        (name,) = list_claims(pool)
        return str(json.loads((pool / CLAIMS_FOLDER).read(name))["process"]["machine"])


def garbage(machine: str = "") -> dict[str, bytes]:
    """Files that no run of this machine wrote."""

    def here(pid: object) -> dict[str, object]:
        return {"machine": machine, "pid": pid}

    claims = {
        "no process": {"beat": 1, "shards": [3]},
        "no shards": {"process": here(os.getpid()), "beat": 1},
        "shards of no number": {"process": here(os.getpid()), "beat": 1, "shards": ["three"]},
        "endless shards": {"process": here(os.getpid()), "beat": 1, "shards": [float("inf")]},
        "pid of no number": {"process": here("one"), "beat": 1, "shards": [3]},
        "pid too large": {"process": here(2**70), "beat": 1, "shards": [3]},
        "a list": [3],
    }
    files = {"empty": b"", "no JSON": b"\x00\xff{", "half": b'{"process": {"mach'}
    return files | {name: json.dumps(claim).encode() for name, claim in claims.items()}


@pytest.mark.parametrize("kind", garbage())
def test_claims_garbage_is_passed_over_and_removed(local_pool: Folder, kind: str) -> None:
    content = garbage(machine_of(local_pool))[kind]
    (local_pool / CLAIMS_FOLDER).write("0123456789ab.json", content)
    with Claims(local_pool) as claims:
        assert of_others(claims) == set()
        assert claims.take(3)
        assert len(list_claims(local_pool)) == 1


def test_claims_leave_files_of_others_alone(local_pool: Folder) -> None:
    (local_pool / CLAIMS_FOLDER).write("README.txt", b"hello")
    with Claims(local_pool) as claims:
        assert of_others(claims) == set()
    assert list_claims(local_pool) == ["README.txt"]
