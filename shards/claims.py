"""Which runs are at work in a folder of the store, and which shards they are rendering, so that
none is rendered twice and nothing is deleted under them.

Every run keeps a file of its own in the folder's `claims/` and reads the others'; nothing is
locked, so this works on any storage. Claims save work, they do not guard anything: a shard is a
pure function of recipe and index, and two runs that both render it write the same bytes.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from shards.atomic import remove_stale
from shards.manifest import MANIFEST_FOLDER
from shards.storage import Folder

CLAIMS_FOLDER = "claims"
BEAT_S = 3.0
SILENT_S = 20.0
_STALE_S = 60.0  # more than the clocks of two machines differ
_GIVE_WAY_S = 0.1
_LOOKS = 5


class Claims:
    """The claims of this run, a context manager; its file says that the run is alive.

    A run on this machine is dead when its process is gone, one on another when its file has not
    changed for `SILENT_S`, by this machine's clock.
    """

    def __init__(self, pool: Folder) -> None:
        self._folder = pool / CLAIMS_FOLDER
        self._name = f"{uuid.uuid4().hex[:12]}.json"
        self._mine: set[int] = set()
        self._beat = 0
        self.foreign: set[str] = set()
        """Files of runs on other machines, of which only silence tells that they are dead."""
        self._seen: dict[str, tuple[int, float]] = {}
        self._lock = Lock()
        self._stop = Event()
        self._thread = Thread(target=self._keep_beating, name="claims", daemon=True)

    def __enter__(self) -> Claims:
        self._publish()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._folder.remove(self._name)

    def take(self, index: int) -> bool:
        """Claim a shard that no run in `list_others` has; False if one has claimed it since."""
        with self._lock:
            self._mine.add(index)
        self._publish()
        for _ in range(_LOOKS):  # a shard is ours if nobody else claims it once our claim is out
            rivals = [name for name, claimed in self.list_others().items() if index in claimed]
            if not rivals:
                return True
            if min(rivals) < self._name:
                break
            time.sleep(_GIVE_WAY_S)  # both claimed it in the same moment: the other gives way,
        self.release([index])  # unless it had looked before our claim was out
        return False

    def release(self, indices: list[int]) -> None:
        """Give up claims, after the manifest lists what was rendered."""
        with self._lock:
            self._mine.difference_update(indices)
        self._publish()

    def _keep_beating(self) -> None:
        while not self._stop.wait(BEAT_S):
            try:
                self._publish()
            except OSError:
                continue  # a claim not renewed costs work, no more

    def _publish(self) -> None:
        with self._lock:
            self._beat += 1
            claim = {"process": _this_process(), "beat": self._beat, "shards": sorted(self._mine)}
            content = json.dumps(claim).encode()
            self._folder.write(self._name, content, is_durable=False)  # it dies with the process

    def list_others(self) -> dict[str, list[int]]:
        """File of each other live run -> shards that it has claimed."""
        claims = {}
        for name in self._folder.list_files():
            if name == self._name or not name.endswith(".json"):
                continue
            try:
                claim = json.loads(self._folder.read(name))
                shards = [int(index) for index in claim["shards"]]
                is_alive = self._is_alive(name, claim)
            except FileNotFoundError:
                continue
            except (ValueError, KeyError, TypeError, OverflowError):
                is_alive = False  # not written by a run
            if is_alive:
                claims[name] = shards
            else:
                self._folder.remove(name)
        return claims

    def _is_alive(self, name: str, claim: dict[str, Any]) -> bool:
        process, here = claim["process"], _this_process()
        if process["machine"] == here["machine"]:
            return bool(process["started"] == _start_time(process["pid"]))
        self.foreign.add(name)
        beat, since = self._seen.get(name, (-1, 0.0))
        if claim["beat"] != beat:
            beat, since = claim["beat"], time.monotonic()
            self._seen[name] = beat, since
        return time.monotonic() - since < SILENT_S


def is_in_use(pool: Folder, patience_s: float = 0.0) -> bool:
    """Whether a live run is at work in a folder of the store. A run on another machine is watched
    for at most `patience_s`; whether it lives takes `SILENT_S` to tell.
    """
    claims = Claims(pool)
    deadline = time.monotonic() + patience_s
    while others := claims.list_others():
        if others.keys() - claims.foreign or time.monotonic() > deadline:
            return True
        time.sleep(min(1.0, patience_s))
    return False


def remove_leftovers(folder: Folder, sets: Iterable[str]) -> None:
    """Delete what killed runs left in a local folder and its `sets`, unless a run is at work."""
    if not folder.is_local or is_in_use(folder):
        return
    shard_sets = [folder / name for name in sets]
    manifests = [shards / MANIFEST_FOLDER for shards in shard_sets]
    for place in (folder, folder / CLAIMS_FOLDER, *shard_sets, *manifests):
        remove_stale(place.path, _STALE_S)


def _this_process() -> dict[str, Any]:
    """Process id and start, and where they mean something: boot and space of process ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        machine = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        machine = f"{uuid.uuid4().hex}"  # cannot tell: only its beat says that it lives
    return {"machine": machine, "pid": os.getpid(), "started": _start_time(os.getpid())}


def _start_time(pid: int) -> str | None:
    """When a process started, in ticks since boot; None if it has ended."""
    try:
        fields = Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
