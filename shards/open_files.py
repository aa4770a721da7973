"""How many files a process may have open: shards and blocks are memory-mapped by the thousand, and
each mapping counts as an open file; where a shell is started the limit is often 1,024.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from functools import cache

_WANTED = 65_536


@cache
def allow_open_files() -> None:
    """Raise this process's own limit, once, as far as the system lets it and 65,536 at the most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS has further limits
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
