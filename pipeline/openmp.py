"""How OpenMP's threads wait for one another: asleep, so that two processes share the processors.

By default GNU's libgomp, which torch's Linux wheels bring, lets a waiting thread spin for
milliseconds. Where another process wants the processor, the thread that is waited for is then not
running: two trainings side by side come nearly to a standstill. The library reads the environment
when torch is imported, so each entry point calls `wait_asleep` before that, and `cluster.py` sends
the outcome to workers elsewhere. Processes that are started here inherit it.
"""

from __future__ import annotations

import os

POLICY = "OMP_WAIT_POLICY"
"""OpenMP's own variable, which LLVM's and Intel's libraries honour as well."""
_SETTINGS = (POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Any of them says how long to spin: OpenMP's, GNU's, LLVM's and Intel's."""


def wait_asleep() -> None:
    """Let threads sleep while they wait, unless the environment says already how they should."""
    if not waiting():
        os.environ[POLICY] = "passive"


def waiting() -> dict[str, str]:
    """What the environment says of it, for processes that do not inherit it."""
    return {name: os.environ[name] for name in _SETTINGS if name in os.environ}
