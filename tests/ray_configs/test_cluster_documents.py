"""What the cluster files and the page about them name exists, and none of them holds a secret."""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.__main__ import app
from pipeline.config.file import load_config
from pipeline.config.root import Config
from tests.support.shipped_clusters import CONFIGS, ROOT, YAML_FILES, load

PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
SECRET_NAME = re.compile(r"(password|secret|token|access_?key|credential)s?$", re.IGNORECASE)
SECRET_TEXT = re.compile(
    r"AKIA[0-9A-Z]{16}|ghp_\w{30}|-----BEGIN|\bey[JK][\w-]{20}|\b[0-9a-fA-F]{32,}\b"
)


def pipeline_commands(text: str) -> Iterator[list[str]]:
    """Arguments of every `python -m pipeline …` in a shell text."""
    for match in re.finditer(r"\bpython -m pipeline ([^\"`]+)", text.replace("\\\n", " ")):
        yield shlex.split(match[1].split("\n")[0], comments=True)


def shipped_commands() -> list[list[str]]:
    entrypoint = load("kuberay-rayjob.yaml")["spec"]["entrypoint"]
    return [*pipeline_commands(PAGE), *pipeline_commands(entrypoint)]


def load_shipped(arguments: list[str]) -> Config:
    _, config, *changes = arguments
    return load_config(ROOT / config, changes)


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, name)
    else:
        yield name, value


def test_commands_exist_and_their_configs_load() -> None:
    commands = shipped_commands()
    assert len(commands) >= 3
    names = {command.name for command in app.registered_commands}
    for arguments in commands:
        assert arguments[0] in names
        config = load_shipped(arguments)
        assert config.ray.nodes == "marked"
        assert (config.paths.runs, config.paths.store) == (Path("/shared/runs"), "/shared/store")
        assert config.train.global_batch // 2 % config.ray.train_workers == 0


def test_commands_ask_for_no_more_trainers_than_there_are_nodes() -> None:
    limits = {
        kind: node["max_workers"]
        for kind, node in load("aws.yaml")["available_node_types"].items()
        if kind != "head"
    }
    for arguments in shipped_commands():
        ray = load_shipped(arguments).ray
        assert ray.train_workers * ray.gpus_per_worker <= limits["train"]
        assert ray.render_workers * ray.gpus_per_worker <= limits["render"]
        assert ray.eval_workers * ray.gpus_per_worker <= limits["eval"]


@pytest.mark.parametrize("name", [*YAML_FILES, "Containerfile", "../docs/cluster.md"])
def test_cluster_files_have_no_credentials(name: str) -> None:
    text = (CONFIGS / name).read_text(encoding="utf-8")
    assert not SECRET_TEXT.search(text)
    assert SECRET_TEXT.search("key: AKIA" + "A" * 16)
    if name.endswith(".yaml"):
        for document in yaml.safe_load_all(text):
            for field, value in leaves(document):
                is_place = not isinstance(value, str) or value.startswith("~/")
                is_named = SECRET_NAME.search(field) and field != "HttpTokens"  # a setting of EC2
                assert is_place or not is_named, f"{field}: {value}"


@pytest.mark.parametrize("name", YAML_FILES)
def test_what_is_to_be_replaced_is_told_on_the_page(name: str) -> None:
    marks = set(re.findall(r"CHANGE-ME-[A-Z-]*[A-Z]", (CONFIGS / name).read_text(encoding="utf-8")))
    assert marks
    assert marks <= set(re.findall(r"CHANGE-ME-[A-Z-]*[A-Z]", PAGE))


def test_files_that_the_page_names_exist() -> None:
    inside = set(re.findall(r"`([\w-]+\.yaml|Containerfile)`", PAGE))
    assert inside == {*YAML_FILES, "Containerfile"}
    assert all((CONFIGS / name).is_file() for name in inside)
    named = set(re.findall(r"\b((?:ray_configs|configs)/[\w-]+(?:\.yaml|\.sh|\.json)?)", PAGE))
    assert {"configs/digits.yaml", "ray_configs/aws.yaml"} <= named
    assert all((ROOT / name).exists() for name in named - {"ray_configs/kuberay-"})


def test_page_says_that_no_cloud_was_used() -> None:
    assert "**No file here has ever run on a cloud or on Kubernetes.**" in PAGE


def test_image_is_the_lock_and_the_code_without_root_and_data() -> None:
    text = (CONFIGS / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users[-1:] == ["1000:1000"]
    assert any("--require-hashes -r /tmp/requirements.lock" in line for line in lines)
    version = re.search(r"^FROM python:3\.(\d+)-", text, re.MULTILINE)
    assert version is not None
    assert 11 <= int(version[1]) < 13
    copies = [
        [word for word in line.split()[1:-1] if not word.startswith("--")]
        for line in lines
        if line.startswith("COPY ")
    ]
    sources = {source for copy in copies for source in copy}
    assert {"pipeline", "shards", "configs"} <= sources
    assert all((ROOT / source).exists() for source in sources)
    assert all(is_sent(source) for source in sources)


@pytest.mark.parametrize(
    "path", [".git", ".venv", "runs", "store", "data", "teachers/mine", "x.pem"]
)
def test_image_is_never_sent_data_or_keys(path: str) -> None:
    assert not is_sent(path)


def is_sent(path: str) -> bool:
    """Whether .dockerignore lets a path into the build: the last line that matches decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        rule = line.removeprefix("!")
        parents = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
        if any(_matches(parent, rule) for parent in parents):
            sent = line.startswith("!")
    return sent


def _matches(path: str, rule: str) -> bool:
    return path.count("/") == rule.count("/") and fnmatch.fnmatchcase(path, rule)
