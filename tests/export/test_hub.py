"""Pushing to a hub, whose client is a fake: what would be uploaded, and what a failure says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.export.folder import FILES
from pipeline.export.hub import connect, push
from shards.errors import UserError


class FakeHub:
    """Keeps what it is given, as `HfApi` would send it."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.problem = problem
        self.repositories: dict[str, bool] = {}
        self.files: dict[str, bytes] = {}

    def create_repo(
        self, repo_id: str, *, repo_type: str, private: bool, exist_ok: bool
    ) -> str:  # fmt: skip
        assert repo_type == "model"
        if self.problem is not None:
            raise self.problem
        if repo_id in self.repositories and not exist_ok:
            raise RuntimeError("409 Conflict")
        self.repositories.setdefault(repo_id, private)
        return f"https://hub/{repo_id}"

    def upload_folder(self, *, folder_path: Path, allow_patterns: list[str], **_: Any) -> None:
        self.files = {
            path.name: path.read_bytes()
            for path in Path(folder_path).iterdir()
            if path.name in allow_patterns
        }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*FILES, "notes.txt", ".README.md.0.tmp"):
        (tmp_path / name).write_text(name)
    return tmp_path


def test_push_uploads_the_exports_files_and_no_others(folder: Path) -> None:
    hub = FakeHub()
    assert push(hub, folder, "me/digits", public=False) == "https://hub/me/digits"
    assert hub.files == {name: name.encode() for name in FILES}
    push(hub, folder, "me/digits", public=False)


def test_push_makes_a_private_repository_unless_told_otherwise(folder: Path) -> None:
    hub = FakeHub()
    push(hub, folder, "me/a", public=False)
    push(hub, folder, "me/b", public=True)
    assert hub.repositories == {"me/a": True, "me/b": False}


def test_push_that_fails_is_one_line_with_the_remedy(folder: Path) -> None:
    hub = FakeHub(ConnectionError("Name or service\nnot known"))
    with pytest.raises(UserError) as raised:
        push(hub, folder, "me/digits", public=False)
    message = str(raised.value)
    assert message.startswith("--push-to=me/digits: Name or service not known; ")
    assert "hf auth login" in message


def test_hubs_own_client_refuses_a_name_before_anything_is_sent(folder: Path) -> None:
    with pytest.raises(UserError, match=r"--push-to=a b/c: Repo id must"):
        push(connect(), folder, "a b/c", public=False)


def test_hub_that_is_not_installed_is_named_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"--push-to: .*pip install huggingface_hub"):
        connect()
