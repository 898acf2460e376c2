"""What can be said of the deployment artefacts without deploying them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from foretick.app.settings_load import load
from foretick.errors import StateUnreadable, UsageError
from servers import REPOSITORY, missing

DEPLOY = REPOSITORY / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
CONFIGS = sorted((DEPLOY / "kubernetes").rglob("foretick.toml"))
MANIFESTS = sorted(path for path in (DEPLOY / "kubernetes").rglob("*.yaml"))
EXPOSURE_MAX = 1.5
DRAIN_SECONDS = 10  # docs/operations.md: a stop takes no longer


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def deployment():
    return documents(DEPLOY / "kubernetes/base/deployment.yaml")[0]


def container_of(manifest):
    return manifest["spec"]["template"]["spec"]["containers"][0]


def environment_of(text):
    """Every FORETICK_ variable that a text sets, as in a Dockerfile, a unit or a compose file."""
    return dict(re.findall(r"(FORETICK_[A-Z_]+)\s*[=:]\s*\"?([^\s\"\\]+)", text))


def properties(unit):
    lines = (line.partition("=") for line in unit.read_text().splitlines() if "=" in line and line[0] != "#")
    return {name: value for name, _, value in lines}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_every_settings_file_is_read_without_a_complaint(path):
    settings = load(config=path, environ={}).settings
    assert settings.redis.url


@pytest.mark.parametrize("name", ["Dockerfile", "deploy/compose.yaml"])
def test_every_variable_is_a_setting(name):
    found = environment_of((REPOSITORY / name).read_text())
    assert found
    load(environ=found | {"HOME": "/"})


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_waits_longer_than_a_stop_takes_and_leaves_wrong_settings_alone(unit):
    given = properties(unit)
    assert given["Type"] == "notify"
    assert int(given["TimeoutStopSec"]) > DRAIN_SECONDS
    unmendable = {str(error.exit_code) for error in (UsageError, StateUnreadable)}  # by another try
    assert set(given["RestartPreventExitStatus"].split()) == unmendable
    assert given["KillMode"] == "mixed"
    assert "MemoryDenyWriteExecute" not in given
    assert "ProcSubset" not in given


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_the_drop_in_for_a_gpu_lifts_all_that_the_unit_forbids_of_devices(unit):
    (drop_in,) = re.findall(r"```ini\n *\[Service\]\n(.*?)```", (REPOSITORY / "docs/device.md").read_text(), re.DOTALL)
    lifted = dict(line.strip().split("=") for line in drop_in.strip().splitlines())
    assert lifted == {"PrivateDevices": "no", "DevicePolicy": "auto"}
    assert {name for name in properties(unit) if "Device" in name} == lifted.keys()


def test_an_instance_differs_only_in_its_names():
    one, many = ((DEPLOY / "systemd" / name).read_text() for name in ("foretick.service", "foretick@.service"))
    ours = [line for line in many.splitlines() if line and line[0] != "#"]
    expected = [line for line in one.splitlines() if line and line[0] != "#"]
    differing = {line.partition("=")[0] for line, other in zip(ours, expected, strict=True) if line != other}
    assert differing == {"Description", "ExecStart", "EnvironmentFile", "StateDirectory", "LoadCredential"}


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_understands_the_unit_and_finds_it_little_exposed(unit, tmp_path):
    analyze = shutil.which("systemd-analyze") or missing("systemd-analyze")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/foretick/bin/foretick", "/bin/true"))

    def ask(*arguments):
        return subprocess.run([analyze, *arguments, copy], check=False, capture_output=True, text=True)

    verified = ask("verify", "--man=no")
    assert (verified.returncode, [line for line in verified.stderr.splitlines() if "foretick" in line]) == (0, [])
    last = ask("security", "--offline=yes").stdout.splitlines()[-1]
    assert float(last.split(": ")[1].split()[0]) <= EXPOSURE_MAX


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(DEPLOY / "kubernetes")))
def test_every_manifest_is_yaml_with_a_kind(path):
    assert all({"apiVersion", "kind"} <= document.keys() for document in documents(path))


def test_every_file_that_a_kustomization_names_is_there():
    for path in MANIFESTS:
        if path.name == "kustomization.yaml":
            (kustomization,) = documents(path)
            named = [*kustomization.get("resources", []), *kustomization.get("components", [])]
            named += [name for made in kustomization.get("configMapGenerator", []) for name in made["files"]]
            assert [name for name in named if not (path.parent / name).exists()] == []


def test_every_probe_asks_a_page_that_there_is():
    container = container_of(deployment())
    (port,) = container["ports"]
    asked = {probe: container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}
    pages = (REPOSITORY / "daemon/foretick/ports/endpoints.py").read_text()
    for question in asked.values():
        assert question["port"] == port["name"]
        assert f'"{question["path"].partition("?")[0]}"' in pages
    assert asked["readiness"]["path"] == "/readyz?standby"
    assert port["containerPort"] == load(environ={}).settings.http.port


def test_pod_and_image_agree_on_their_user_and_nobody_is_root():
    user = re.search(r"^USER (\d+):(\d+)$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    pod = deployment()["spec"]["template"]["spec"]
    assert user is not None
    assert (int(user[1]), int(user[2])) == (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"])
    assert int(user[1]) > 0


def test_a_pod_has_no_token_no_links_and_no_rights():
    pod = deployment()["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["terminationGracePeriodSeconds"] > DRAIN_SECONDS
    security = container_of(deployment())["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert security["capabilities"] == {"drop": ["ALL"]}


def test_everything_that_compose_mounts_is_there():
    (compose,) = documents(DEPLOY / "compose.yaml")
    mounted = [volume for service in compose["services"].values() for volume in service.get("volumes", ())]
    ours = [volume.partition(":")[0] for volume in mounted if volume.startswith(".")]
    assert len(ours) >= 3
    assert [path for path in ours if not (DEPLOY / path).exists()] == []
    home = compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (DEPLOY / "grafana/dashboards" / Path(home).name).exists()


def test_prometheus_of_compose_scrapes_the_daemon_and_knows_the_rules():
    (config,) = documents(DEPLOY / "prometheus/prometheus.yaml")
    job = next(job for job in config["scrape_configs"] if "foretick" in job["job_name"])
    assert job["static_configs"][0]["targets"] == [f"foretick:{load(environ={}).settings.http.port}"]
    assert all((DEPLOY / "prometheus" / name).exists() for name in config["rule_files"])


def test_the_image_carries_the_extras_that_it_names():
    extras = re.search(r"^ARG EXTRAS=(\S+)$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    known = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras is not None
    assert set(extras[1].split(",")) <= known.keys()
