"""How long OpenMP's threads spin while they wait for one another: briefly, so that two processes
can share the processors.

By default GNU's libgomp, which torch's Linux wheels bring, lets a waiting thread spin for
milliseconds. Where another process wants the processor, the thread that is waited for is then not
running: two trainings side by side come nearly to a standstill. Threads that sleep at once cost a
training that is alone half as much time again; a thousand turns cost little of either
(docs/speed.md). The library reads the environment when torch is imported, so each entry point calls
`limit_spinning` before that, and `connection.py` sends the outcome to workers elsewhere. Processes
that are started here inherit it.
"""

from __future__ import annotations

import os

SPIN_COUNT = "GOMP_SPINCOUNT"
_TURNS = "1000"
_SETTINGS = (SPIN_COUNT, "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
"""Any of them says how long to spin: GNU's, OpenMP's own, LLVM's and Intel's."""


def limit_spinning() -> None:
    """Let threads sleep soon while they wait, unless the environment says already how they
    should.
    """
    if not spin_settings():
        os.environ[SPIN_COUNT] = _TURNS


def spin_settings() -> dict[str, str]:
    """What the environment says of it, for processes that do not inherit it."""
    return {name: os.environ[name] for name in _SETTINGS if name in os.environ}
