"""The shipped cluster configs, and which nodes Ray's own autoscalers would add for some work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "ray_configs"
LAUNCHER_FILES = ("aws.yaml", "gcp.yaml")
KUBERAY_FILES = ("kuberay-raycluster.yaml", "kuberay-rayjob.yaml")
YAML_FILES = (*LAUNCHER_FILES, *KUBERAY_FILES, "kuberay-shared.yaml")


def load(name: str) -> dict[str, Any]:
    """The only document of a file."""
    document = yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def cluster_spec(name: str) -> dict[str, Any]:
    """The cluster in one of the files for KubeRay."""
    spec = load(name)["spec"]
    return dict(spec.get("rayClusterSpec", spec))


def nodes_by_launcher(config: dict[str, Any], demands: list[dict[str, float]]) -> dict[str, int]:
    """Worker nodes that `ray up`'s autoscaler would add to a lone head."""
    from ray.autoscaler._private.resource_demand_scheduler import (
        _default_utilization_scorer,
        get_nodes_for,
    )

    def score(resources: Any, wanted: Any, node_type: str) -> Any:
        return _default_utilization_scorer(
            resources, wanted, node_type, node_availability_summary=None
        )

    head = config["head_node_type"]
    added, _ = get_nodes_for(
        config["available_node_types"], {head: 1}, head, config["max_workers"], demands, score
    )
    return dict(added)


def nodes_by_operator(spec: dict[str, Any], demands: list[dict[str, float]]) -> dict[str, int]:
    """Worker pods that the autoscaler beside a KubeRay head would ask for."""
    from ray.autoscaler._private.kuberay.autoscaling_config import (
        _derive_autoscaling_config_from_ray_cr,
    )
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil

    cluster = {"metadata": {"name": "cluster", "namespace": "default"}, "spec": spec}
    config = AutoscalingConfig(
        _derive_autoscaling_config_from_ray_cr(cluster), skip_content_hash=True
    )
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count(
            [ResourceRequestUtil.make(demand) for demand in demands]
        ),
    )
    launches = ResourceDemandScheduler().schedule(request).to_launch
    counts = {launch.instance_type: launch.count for launch in launches}
    counts.pop(config.get_head_node_type(), None)
    return counts
