"""Golden files of every family with something altered: they are imported or refused in one line."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.teacher.importing import checkpoint, source
from pipeline.teacher.importing.source import read_file
from pipeline.teacher.importing.stand_ins import StoredModule
from shards.errors import UserError

GOLDEN = Path(__file__).parents[2] / "golden"
FILES = sorted(
    path for path in GOLDEN.iterdir() if path.is_dir() or path.suffix in {".pkl", ".pt", ".pth"}
)
VALUES = [None, True, 0, -1, 2**70, 0.5, float("nan"), "text", "\x1b[31m", [], {}, (), (1, 2)]
every_golden = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
small = settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def import_or_refuse(path: Path, folder: Path) -> None:
    """Without writing: an altered weight is still a weight, which would be a teacher."""
    message = ""
    try:
        checkpoint.import_teacher(path, folder / "teacher")
    except UserError as error:
        message = str(error)
    assert message.isprintable()
    assert len(message) < 2000


@pytest.fixture(autouse=True)
def _nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "save_teacher", lambda *_: None)


@every_golden
@small
@given(positions=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1))
def test_import_golden_with_altered_bytes_is_imported_or_refused(
    path: Path, positions: list[tuple[float, int]], tmp_path: Path
) -> None:
    folder = tmp_path / path.name if path.is_dir() else tmp_path
    folder.mkdir(exist_ok=True)
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        content = bytearray(file.read_bytes())
        for place, value in positions:
            content[int(min(place, 1) * min(len(content), 20_000))] = value
        (folder / file.name).write_bytes(content)
    import_or_refuse(folder if path.is_dir() else folder / path.name, tmp_path)


def holders(content: Any, depth: int = 0) -> list[dict[Any, Any]]:
    """Every dictionary in `content`, states of modules among them."""
    if isinstance(content, StoredModule):
        content = content.state
    parts = content.values() if isinstance(content, dict) else content
    if not isinstance(content, (dict, list, tuple)) or depth > 20:
        return []
    own = [content] if isinstance(content, dict) and content else []
    return [*own, *(holder for part in parts for holder in holders(part, depth + 1))]


def alter(content: Any, draws: random.Random) -> None:
    """Leave out, replace, exchange or rename a value somewhere."""
    found = holders(content)
    if not found:
        return
    holder = draws.choice(found)
    keys = list(holder)
    key, other = draws.choice(keys), draws.choice(keys)
    way = draws.choice(["without", "replaced", "exchanged", "renamed"])
    if way == "without":
        del holder[key]
    elif way == "replaced":
        holder[key] = draws.choice(VALUES)
    elif way == "exchanged":
        holder[key], holder[other] = holder[other], holder[key]
    else:
        holder[draws.choice(["", "x", "module.0", "\x1b[31m", 7])] = holder.pop(key)


@every_golden
@small
@given(seed=st.integers(0, 2**32))
def test_import_golden_with_altered_content_is_imported_or_refused(
    path: Path, seed: int, tmp_path: Path
) -> None:
    draws = random.Random(seed)

    def read_altered(file: Path) -> Any:
        content = read_file(file)
        for _ in range(3):
            alter(content, draws)
        return content

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "read_file", read_altered)
        import_or_refuse(path, tmp_path)
