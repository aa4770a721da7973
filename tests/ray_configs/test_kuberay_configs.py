"""The operator and Ray's autoscaler can read the files for KubeRay, and pods are what Kubernetes
takes.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support.shipped_clusters import (
    CONFIGS,
    KUBERAY_FILES,
    ROOT,
    cluster_spec,
    load,
    nodes_by_operator,
)

KUBERNETES = "1.33"
FIELDS = yaml.safe_load((Path(__file__).parent / "kuberay-fields.yaml").read_text(encoding="utf-8"))
WORK = ("render", "train", "eval")
LABEL = {"app.kubernetes.io/part-of": "squeeze-and-span"}


def shared() -> dict[str, dict[str, Any]]:
    text = (CONFIGS / "kuberay-shared.yaml").read_text(encoding="utf-8")
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def templates(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod template with the name of its group."""
    spec = cluster_spec(name)
    yield "head", spec["headGroupSpec"]["template"]
    for group in spec["workerGroupSpecs"]:
        yield group["groupName"], group["template"]


def check_pod(template: dict[str, Any]) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", KUBERAY_FILES)
def test_kuberay_file_has_known_fields_only(name: str) -> None:
    document = load(name)
    jsonschema.validate(document, FIELDS)
    document["spec"]["shutDownAfterJobFinishes"] = True  # an API server would drop it unseen
    with pytest.raises(jsonschema.ValidationError, match="shutDownAfterJobFinishes"):
        jsonschema.validate(document, FIELDS)


@pytest.mark.parametrize("name", KUBERAY_FILES)
def test_kuberay_pods_are_pods(name: str) -> None:
    for _, template in templates(name):
        check_pod(template)
    wrong = copy.deepcopy(template)
    wrong["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="volumeMount"):
        check_pod(wrong)


@pytest.mark.parametrize("kind", ["PersistentVolumeClaim", "ServiceAccount", "NetworkPolicy"])
def test_kuberay_shared_documents_are_kubernetes_own(kind: str) -> None:
    kubernetes_validate.validate(shared()[kind], KUBERNETES, strict=True)


@pytest.mark.parametrize("name", KUBERAY_FILES)
@pytest.mark.parametrize("work", WORK)
def test_kuberay_autoscaler_adds_the_group_of_the_work_and_no_other(name: str, work: str) -> None:
    spec = cluster_spec(name)
    limits = {group["groupName"]: group["maxReplicas"] for group in spec["workerGroupSpecs"]}
    demand = {"CPU": 1.0, "GPU": 1.0, work: 0.001}
    assert nodes_by_operator(spec, [demand]) == {work: 1}
    assert nodes_by_operator(spec, [demand] * 100) == {work: limits[work]}


@pytest.mark.parametrize("name", KUBERAY_FILES)
def test_kuberay_cluster_grows_from_a_head_without_work(name: str) -> None:
    spec = cluster_spec(name)
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert [group["minReplicas"] for group in spec["workerGroupSpecs"]] == [0, 0, 0]
    assert nodes_by_operator(spec, []) == {}


@pytest.mark.parametrize("name", KUBERAY_FILES)
def test_kuberay_only_rendering_is_on_spot_nodes(name: str) -> None:
    for group, template in templates(name):
        affinity = template["spec"]["affinity"]["nodeAffinity"]
        terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        operators = {rule["operator"] for term in terms for rule in term["matchExpressions"]}
        if group == "render":
            assert operators == {"In"}
            assert len(terms) == 3  # any of them
        else:
            assert operators <= {"NotIn", "DoesNotExist"}
            assert len(terms) == 1  # all at once
    graces = {
        group: template["spec"].get("terminationGracePeriodSeconds", 30)
        for group, template in templates(name)
    }
    assert graces["render"] < 30 < graces["train"]


@pytest.mark.parametrize("name", KUBERAY_FILES)
def test_kuberay_pods_are_not_root_and_share_what_runs_need(name: str) -> None:
    objects = shared()
    assert objects["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    for group, template in templates(name):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["serviceAccountName"] == objects["ServiceAccount"]["metadata"]["name"]
        for container in spec["containers"]:
            rights = container["securityContext"]
            assert rights == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
            assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/shared"}
            assert container["resources"]["requests"] == container["resources"]["limits"]
        claims = [volume["persistentVolumeClaim"]["claimName"] for volume in spec["volumes"]]
        assert claims == [objects["PersistentVolumeClaim"]["metadata"]["name"]]
        assert (group == "head") == spec.get("automountServiceAccountToken", True)


@pytest.mark.parametrize("name", KUBERAY_FILES)
def test_kuberay_asks_for_a_token_and_is_reached_by_its_own_pods_only(name: str) -> None:
    assert cluster_spec(name)["authOptions"] == {"mode": "token"}
    policy = shared()["NetworkPolicy"]["spec"]
    assert policy["podSelector"] == {"matchLabels": LABEL}
    assert policy["policyTypes"] == ["Ingress"]
    assert all(template["metadata"]["labels"] == LABEL for _, template in templates(name))
    own, operator = policy["ingress"]
    assert own == {"from": [{"podSelector": {"matchLabels": LABEL}}]}
    assert operator["ports"] == [{"protocol": "TCP", "port": 8265}]


def test_kuberay_job_goes_when_it_is_done_and_has_the_clusters_spec() -> None:
    spec = load("kuberay-rayjob.yaml")["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["rayClusterSpec"] == load("kuberay-raycluster.yaml")["spec"]


@pytest.mark.parametrize("name", KUBERAY_FILES)
def test_kuberay_ray_version_is_the_locks(name: str) -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = re.search(r"^ray==([\d.]+)", lock, re.MULTILINE)
    assert pinned is not None
    assert cluster_spec(name)["rayVersion"] == pinned[1]
