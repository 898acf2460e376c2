"""What kubectl makes of the overlays, judged by the API's schemas and by checkov: `make kubernetes-test`."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
import yaml

from machines import run
from servers import REPOSITORY

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]

OVERLAYS = ("single", "cluster")
FOREIGN = {"ServiceMonitor", "ScaledObject", "TriggerAuthentication"}  # of operators; the bundled schemas lack them


def tool(name):
    return shutil.which(name) or pytest.fail(f"{name} is missing: make kubernetes-test brings what pip has")


@pytest.fixture(scope="module", params=OVERLAYS)
def rendered(request, tmp_path_factory):
    kubectl = shutil.which("kubectl")
    if not kubectl:
        pytest.skip("kubectl is missing (Debian: kubernetes-client)")
    path = tmp_path_factory.mktemp("rendered") / f"{request.param}.yaml"
    path.write_text(run(kubectl, "kustomize", REPOSITORY / "deploy/kubernetes/overlays" / request.param))
    return path


def test_the_schemas_of_the_api_accept_it_strictly(rendered, tmp_path):
    documents = list(yaml.safe_load_all(rendered.read_text()))
    ours = [document for document in documents if document["kind"] not in FOREIGN]
    assert len(ours) >= 7
    path = tmp_path / "ours.yaml"
    path.write_text(yaml.safe_dump_all(ours))
    run(tool("kubernetes-validate"), "--strict", path)


def test_the_schemas_are_strict(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIp: None}\n")
    done = subprocess.run([tool("kubernetes-validate"), "--strict", path], check=False, capture_output=True)
    assert done.returncode != 0


def test_checkov_finds_nothing_but_the_reasoned_exceptions(rendered):
    done = subprocess.run(
        [tool("checkov"), "--framework", "kubernetes", "--output", "json", "--compact", "--file", rendered],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    results = json.loads(done.stdout)["results"]
    assert [check["check_id"] for check in results["failed_checks"]] == []
    assert {check["check_id"] for check in results["skipped_checks"]} == {"CKV_K8S_11", "CKV_K8S_15", "CKV_K8S_43"}
    assert len(results["passed_checks"]) > 80


def test_every_selector_means_the_pods_of_its_own_kind(rendered):
    for document in yaml.safe_load_all(rendered.read_text()):
        spec = document.get("spec") or {}
        name = document["metadata"]["name"]
        for selector in (spec.get("selector"), spec.get("podSelector")):
            if selector is not None and document["kind"] != "ServiceMonitor":
                labels = selector.get("matchLabels", selector)
                assert labels == {"app.kubernetes.io/name": name}, document["kind"]
