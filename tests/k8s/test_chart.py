"""The Helm chart: linted, rendered, held against Kubernetes' own schemas; bad values refused."""

import json
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
kubernetes_validate = pytest.importorskip("kubernetes_validate")

ROOT = Path(__file__).parents[2]
CHART = ROOT / "k8s" / "lorikeet"
CASES = sorted((CHART / "ci").glob("*-values.yaml"))
VERSIONS = ("1.27", "1.33")
#: Of operators that a cluster may have; Kubernetes' schemas don't know them.
OTHERS = ("monitoring.coreos.com/v1", "gateway.networking.k8s.io/v1")


def values(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())
    return found


def rendered(given: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all manifests of a release ``lk`` in the namespace ``edge``."""
    with helm.Chart.load(str(CHART)) as chart:
        texts = chart.render(given, name="lk", namespace="edge")
    return [
        document
        for path, text in texts.items()
        if path.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]


def one(manifests: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    (found,) = (
        each
        for each in manifests
        if each["kind"] == kind and name in ("", each["metadata"]["name"])
    )
    return found


def hub_file(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(
        one(manifests, "ConfigMap", "lk-lorikeet")["data"]["hub.yaml"]
    )
    return parsed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_strict_lint_finds_nothing(case: Path) -> None:
    found = helm.lint(str(CHART), yaml.safe_load(case.read_text()), strict=True)
    assert found["total_charts_linted"] == 1
    assert found["errors"] == []
    assert [one for one in found["messages"] if one["severity"] > 1] == []  # 1: a hint


def test_lint_finds_a_fault_that_was_made(tmp_path: Path) -> None:
    copy = tmp_path / "lorikeet"
    shutil.copytree(CHART, copy)
    (copy / "templates" / "pdb.yaml").write_text("kind: {{ .Values.gone.deeper }}\n")
    found = helm.lint(str(copy), values("bundled"), strict=True)
    assert found["errors"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_every_manifest_is_valid_in_kubernetes(case: Path, version: str) -> None:
    manifests = rendered(yaml.safe_load(case.read_text()))
    known = [each for each in manifests if each["apiVersion"] not in OTHERS]
    assert len(known) >= 5
    for each in known:
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_pods_run_without_rights(case: Path) -> None:
    for each in rendered(yaml.safe_load(case.read_text())):
        if each["kind"] == "StatefulSet":
            pod = each["spec"]["template"]["spec"]
        elif each["kind"] == "Pod":
            pod = each["spec"]
        else:
            continue
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]


def test_the_broker_sees_its_own_files_and_not_the_authoritys_key() -> None:
    pod = one(rendered(values("bundled")), "StatefulSet")["spec"]["template"]["spec"]
    (broker,) = (each for each in pod["containers"] if each["name"] == "broker")
    assert broker["volumeMounts"] == [
        {"name": "state", "mountPath": "/state/broker", "subPath": "broker"}
    ]
    assert "shareProcessNamespace" not in pod  # or it would, through /proc


def test_who_is_routed_to_the_api_reaches_it() -> None:
    def api_from(case: str) -> list[Any]:
        policy = one(rendered(values(case)), "NetworkPolicy")
        found: list[Any] = policy["spec"]["ingress"][0]["from"]
        return found

    assert api_from("bundled") == [{"podSelector": {}}]
    assert {"namespaceSelector": {}} in api_from("monitoring")
    assert {"namespaceSelector": {}} not in api_from("full")  # which names Prometheus' namespace


def test_probes_of_the_hub_do_not_ask_for_the_broker() -> None:
    pod = one(rendered(values("bundled")), "StatefulSet")["spec"]["template"]["spec"]
    (hub,) = (each for each in pod["containers"] if each["name"] == "hub")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert hub[probe]["httpGet"] == {"path": "/healthz", "port": "api"}


def test_a_gpu_is_asked_for_and_the_given_limits_stay() -> None:
    pod = one(rendered(values("full")), "StatefulSet")["spec"]["template"]["spec"]
    (hub,) = (each for each in pod["containers"] if each["name"] == "hub")
    assert hub["resources"]["limits"] == {"memory": "2Gi", "nvidia.com/gpu": 2}
    assert pod["runtimeClassName"] == "nvidia"
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod[
        "tolerations"
    ]


def test_existing_secrets_and_claims_are_used_and_none_is_made() -> None:
    full, external = rendered(values("full")), rendered(values("external-broker"))
    assert not [each for each in full if each["kind"] == "Secret"]
    spec = one(external, "StatefulSet")["spec"]
    assert "volumeClaimTemplates" not in spec
    volumes = {each["name"]: each for each in spec["template"]["spec"]["volumes"]}
    assert volumes["state"]["persistentVolumeClaim"]["claimName"] == "hub-state"
    assert volumes["broker-secret"]["secret"]["secretName"] == "broker"


def test_the_devices_service_has_a_port_for_each_thing_that_listens() -> None:
    def ports(case: str) -> list[str]:
        service = one(rendered(values(case)), "Service", "lk-lorikeet-devices")
        return [each["name"] for each in service["spec"]["ports"]]

    assert ports("bundled") == ["mqtt", "enrolment"]
    assert ports("full") == ["mqtt", "websocket", "enrolment"]
    names = [each["metadata"]["name"] for each in rendered(values("external-broker"))]
    assert "lk-lorikeet-devices" not in names


def test_more_keys_of_the_hub_file_go_over_the_charts() -> None:
    assert hub_file(rendered(values("full")))["max_devices"] == 500


def test_the_dashboard_asks_for_numbers_that_the_hub_tells() -> None:
    board = (CHART / "dashboards" / "lorikeet.json").read_text()
    told = set(re.findall(r"`(lorikeet_\w+)`", (ROOT / "docs" / "http.md").read_text()))
    manifests = rendered(values("monitoring"))
    rules = json.dumps(one(manifests, "PrometheusRule"))
    asked = set(re.findall(r"lorikeet_\w+", board + rules))
    assert asked
    assert asked <= told
    config = one(manifests, "ConfigMap", "lk-lorikeet-dashboard")
    assert json.loads(config["data"]["lorikeet.json"]) == json.loads(board)


def test_other_manifests_are_expanded() -> None:
    config = one(rendered(values("full")), "ConfigMap", "lk-note")
    assert config["data"] == {"fleet": "clinics"}


#: Path, a value that is wrong there, and what the refusal names.
BAD: list[tuple[str, Any, str]] = [
    ("flet", "clinics", "flet"),
    ("fleet", "my fleet", "fleet"),
    ("image.tagg", "1", "image"),
    ("image.digest", "sha256:12", "digest"),
    ("image.pullPolicy", "Sometimes", "pullPolicy"),
    ("hub.maxDevices", 0, "maxDevices"),
    ("hub.maxDevices", "many", "maxDevices"),
    ("hub.resources.limits.memory", "2 GB", "memory"),
    ("hub.extraEnv", [{"value": "x"}], "extraEnv"),
    ("hub.token.existingSecret", "Not_A_Name", "existingSecret"),
    ("gpu.count", 0, "count"),
    ("enrolment.publicUrl", "http://hub.example.org", "publicUrl"),
    ("enrolment.publicUrl", "", "enrolment.publicUrl is empty"),
    ("enrolment.enabled", False, "enrolment.enabled is false"),
    ("enrolment.certificateDays", 0, "certificateDays"),
    ("broker.version", "1.6", "version"),
    ("broker.publicUrl", "mqtt://hub.example.org", "publicUrl"),
    ("broker.publicUrl", "", "broker.publicUrl is empty"),
    ("broker.bundled", False, "broker.external.url is empty"),
    ("broker.external.files", {"ca_file": "ca.pem"}, "existingSecret is empty"),
    ("persistence.size", "big", "size"),
    ("persistence.accessModes", ["ReadOnlyMany"], "accessModes"),
    ("service.type", "Internet", "type"),
    ("service.ports.mqtt", 0, "mqtt"),
    ("service.loadBalancerSourceRanges", ["10.0.0.1"], "loadBalancerSourceRanges"),
    ("api.ingress.enabled", True, "api.ingress.host is empty"),
    ("api.httpRoute.enabled", True, "api.httpRoute.parentRefs is empty"),
    ("metrics.serviceMonitor.interval", "often", "interval"),
    ("metrics.prometheusRule.diskUsed", 85, "diskUsed"),
    ("podDisruptionBudget.maxUnavailable", 2, "maxUnavailable"),
]


@pytest.mark.parametrize(("path", "value", "named"), BAD)
def test_a_bad_value_is_refused_with_its_path(path: str, value: Any, named: str) -> None:
    given = deepcopy(values("bundled"))
    at = given
    *parts, last = path.split(".")
    for part in parts:
        at = at.setdefault(part, {})
    at[last] = value
    with pytest.raises(helm.HelmError) as refused:
        rendered(given)
    assert named in str(refused.value)


def test_the_readme_is_that_of_the_values() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "k8s" / "readme.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_schema_knows_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())

    def check(node: dict[str, Any], value: Any, path: str) -> None:
        for key, inner in value.items():
            assert key in node["properties"], f"{path}{key}"
            below = node["properties"][key]
            if isinstance(inner, dict) and below.get("properties"):
                check(below, inner, f"{path}{key}.")

    check(schema, defaults, "")
