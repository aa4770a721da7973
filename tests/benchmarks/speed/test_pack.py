from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure import OURS, in_process
from benchmarks.speed.pack import KINDS, Kind, benchmark, pack_ours, pack_pillow
from shards.reader import ShardReader

pytestmark = pytest.mark.usefixtures("rivals_may_open_files")
TOY = {kind.name: Kind(**{**vars(kind), "num_images": 12}) for kind in KINDS}


@pytest.fixture
def rivals_may_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line keeps webdataset from it, also in the processes that it starts."""
    monkeypatch.delenv("WDS_SECURE", raising=False)


@pytest.mark.slow
def test_pack_benchmark_at_toy_size_has_a_rate_for_each_and_their_ratio(tmp_path: Path) -> None:
    ratios, memory = benchmark([TOY["small"]], [OURS, "pillow"], [1], 1, tmp_path)
    ((what, ours, rival, theirs, _),) = ratios.rows
    assert (what, rival) == ("small, 1 core", "pillow")
    assert float(str(ours).split()[0].replace(",", "")) > 0
    assert float(theirs) > 0
    assert [name for _, name, _ in memory.rows] == [OURS, "pillow"]


def test_pack_benchmark_rivals_store_the_same_samples(tmp_path: Path) -> None:
    kind = TOY["small"]
    kind.write(tmp_path / "images")
    pack_ours(kind, tmp_path / "images", tmp_path / "ours", 1)
    in_process(pack_pillow, kind, tmp_path / "images", tmp_path / "theirs", 1)
    (shard,) = (tmp_path / "ours").glob("store/real/*/train/shard-*.tar")
    reader = ShardReader(shard.parent, remedy="")
    ours = reader.gather("image", np.arange(12)).transpose(0, 2, 3, 1)
    (tar,) = (tmp_path / "theirs").rglob("*.tar")
    with tarfile.open(tar) as opened:
        members = [member for member in opened if member.name.endswith(".npy")]
        contents = [opened.extractfile(member) for member in members]
        theirs = [np.load(io.BytesIO(content.read())) for content in contents if content]
    np.testing.assert_array_equal(ours, theirs)
