"""`ray up` can read aws.yaml and gcp.yaml, starts what they say, and leaves no port open."""

from __future__ import annotations

import copy
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support.shipped_clusters import LAUNCHER_FILES, ROOT, load, nodes_by_launcher

WORK = ("render", "train", "eval")


def prepare(config: dict[str, Any]) -> dict[str, Any]:
    """As `ray up` does before it asks the cloud anything."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: dict[str, Any] = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def ray_starts(config: dict[str, Any]) -> list[str]:
    commands = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    return [command for command in commands if "ray start" in command]


def is_spot(node_config: dict[str, Any]) -> bool:
    return (
        node_config.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
        or node_config.get("scheduling", {}).get("provisioningModel") == "SPOT"
    )


@pytest.mark.parametrize("name", LAUNCHER_FILES)
def test_launcher_config_is_what_ray_up_accepts(name: str) -> None:
    config = load(name)
    prepared = prepare(config)
    assert prepared["setup_commands"] == config["setup_commands"]  # none of Ray's own, of wheels
    unknown = {**config, "idle_timeout": 5}
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        prepare(unknown)


@pytest.mark.parametrize("name", LAUNCHER_FILES)
@pytest.mark.parametrize("work", WORK)
def test_launcher_adds_the_nodes_of_the_work_and_no_others(name: str, work: str) -> None:
    config = prepare(load(name))
    limit = config["available_node_types"][work]["max_workers"]
    demand = {"CPU": 1.0, "GPU": 1.0, work: 0.001}
    assert nodes_by_launcher(config, [dict(demand)]) == {work: 1}
    assert nodes_by_launcher(config, [dict(demand) for _ in range(100)]) == {work: limit}


@pytest.mark.parametrize("name", LAUNCHER_FILES)
def test_launcher_renders_on_spot_nodes_and_gives_the_head_no_work(name: str) -> None:
    config = load(name)
    types = config["available_node_types"]
    assert [kind for kind in types if is_spot(types[kind]["node_config"])] == ["render"]
    assert types[config["head_node_type"]]["resources"] == {"CPU": 0}
    assert all(types[work]["min_workers"] == 0 for work in WORK)
    assert config["max_workers"] == sum(types[work]["max_workers"] for work in WORK)


@pytest.mark.parametrize("name", LAUNCHER_FILES)
def test_launcher_starts_ray_with_a_token_and_the_dashboard_on_loopback(name: str) -> None:
    config = load(name)
    starts = ray_starts(config)
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token " in command for command in starts)
    hosts = [word for word in shlex.split(starts[0]) if word.startswith("--dashboard-host")]
    assert hosts == ["--dashboard-host=127.0.0.1"]
    assert all("0.0.0.0" not in command for command in starts)
    assert config["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]


@pytest.mark.parametrize("name", LAUNCHER_FILES)
def test_launcher_takes_the_repository_without_what_is_made_in_it(name: str) -> None:
    config = load(name)
    assert config["file_mounts"]["/home/ubuntu/squeeze-and-span"] == "."
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    made = {f"/{folder}" for folder in ("runs", "store", "data")}
    assert made <= {line.rstrip("/") for line in ignored}
    assert made | {".git", ".venv"} <= set(config["rsync_exclude"])


@pytest.mark.slow
def test_aws_config_starts_one_node_of_each_kind_on_a_simulated_ec2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3
    from moto import mock_aws
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    monkeypatch.setenv("HOME", str(tmp_path))  # Ray leaves a key in ~/.ssh
    (tmp_path / ".ssh").mkdir()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    config = load("aws.yaml")
    region = config["provider"]["region"]
    with mock_aws():
        ec2, iam = boto3.client("ec2", region), boto3.client("iam", region)
        image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        group = ec2.create_security_group(GroupName="own", Description="own")["GroupId"]
        iam.create_role(RoleName="own", AssumeRolePolicyDocument="{}")
        iam.create_instance_profile(InstanceProfileName="ray-autoscaler-v1")
        iam.add_role_to_instance_profile(InstanceProfileName="ray-autoscaler-v1", RoleName="own")
        for kind in config["available_node_types"].values():
            kind["node_config"] |= {"ImageId": image, "SecurityGroupIds": [group]}
        ready = bootstrap_aws(prepare(config))
        provider = AWSNodeProvider(ready["provider"], ready["cluster_name"])
        for kind, node in ready["available_node_types"].items():
            tags = {"ray-node-type": "worker", "ray-user-node-type": kind}
            provider.create_node(node["node_config"], tags, 1)
        groups = [group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]]
        nodes = [
            node for part in ec2.describe_instances()["Reservations"] for node in part["Instances"]
        ]
    kinds = {tag["Value"]: node for node in nodes for tag in node["Tags"] if "user" in tag["Key"]}
    assert {kind: node["InstanceType"] for kind, node in kinds.items()} == {
        kind: node["node_config"]["InstanceType"]
        for kind, node in config["available_node_types"].items()
    }
    assert [kind for kind, node in kinds.items() if "InstanceLifecycle" in node] == ["render"]
    assert all(node["SecurityGroups"][0]["GroupId"] == group for node in nodes)
    assert sorted(groups) == ["default", "own"]  # Ray's own would have port 22 open to all
