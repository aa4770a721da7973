"""A tiny run on the digits: a random teacher of a few channels, 150 samples, a narrow student; and
one on folders of a dozen images, whose real images and pool are made once, and copies of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.support.stored_pools import Site, make_site
from tests.support.workspace import Workspace, make_teacher


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    make_teacher(tmp_path / "teacher")
    config = {
        "name": "tiny",
        "paths": {"store": str(tmp_path / "store"), "runs": str(tmp_path / "runs")},
        "ray": {"render_workers": 0, "study_workers": 0},
        "hardware": {"device": "cpu"},
        "real": {"source": "digits", "resolution": 16, "samples_per_shard": 500},
        "teacher": {"checkpoint": str(tmp_path / "teacher")},
        "generate": {"num_samples": 150, "samples_per_shard": 50, "render_batch": 20},
        "train": {
            "epochs": 3,
            "global_batch": 256,
            "checkpoint_interval_s": 0,
            "student": {"width": 4, "embedding_dim": 16},
            "augment": {"flip_p": 0},
        },
        "eval": {"knn_k": 5, "seeds": [0, 1], "embedding_samples": 0},
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return Workspace(tmp_path, path)


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Real images and three shards of a pool; read only."""
    site = make_site(tmp_path_factory.mktemp("original"))
    site.stage("real")
    site.stage("generate")
    return site


@pytest.fixture
def site(original: Site, tmp_path: Path) -> Site:
    """A copy to do with as one likes."""
    return original.copy_to(tmp_path / "site")
