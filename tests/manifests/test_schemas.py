"""The manifests are what compose, Kubernetes, systemd and Docker understand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from tests.manifests import reading
from tests.programs import program

#: A release that clusters run now; the oldest that has all that is used is 1.25 (endPort).
KUBERNETES: Final = "1.31"
BIN: Final = Path(sys.executable).parent


def _run(command: Sequence[str | Path], **environment: str) -> tuple[str, str]:
    """Returns what it printed, and what it complained of."""
    done = subprocess.run(  # noqa: S603 -- ours
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, done.stderr


def _valid(documents: Sequence[dict[str, Any]]) -> list[str]:
    kinds = []
    for document in documents:
        if document["apiVersion"].startswith("keda.sh/"):
            continue  # no schema of Kubernetes' own
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        kinds.append(document["kind"])
    return kinds


def test_compose_is_a_compose_file() -> None:
    schema = ["--builtin-schema", "vendor.compose-spec"]
    _run([BIN / "check-jsonschema", *schema, reading.COMPOSE])


def test_every_object_is_one_that_kubernetes_knows() -> None:
    kinds = _valid(reading.k8s_documents())
    assert (kinds.count("Deployment"), kinds.count("Job"), kinds.count("NetworkPolicy")) == (
        4,
        1,
        4,
    )


def test_a_misspelt_field_is_no_object_of_kubernetes() -> None:
    [deployment] = [one for one in reading.k8s_documents() if one["metadata"]["name"] == "beat"]
    deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 30
    with pytest.raises(kubernetes_validate.ValidationError):
        _valid([deployment])


def test_kustomize_changes_nothing_but_names(tmp_path: Path) -> None:
    kubectl = program("kubectl")
    shutil.copytree(reading.K8S, tmp_path / "k8s")
    plain = _built(kubectl, tmp_path / "k8s")
    _valid(plain)
    pods = {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]
        for one in plain
        if one["kind"] in {"Deployment", "Job"}
    }
    assert pods.keys() == set(reading.PARTS)
    written = reading.k8s({"trunkline": {}, "flower": {"FLOWER_BASIC_AUTH": "f"}})
    [config] = [one for one in plain if one["kind"] == "ConfigMap"]
    assert config["data"] == reading.k8s_config()
    for name, pod in pods.items():
        [container] = pod["containers"]
        assert tuple(container["args"]) == written[name].command
        assert container["image"] == "registry.example.com/trunkline:0.1.0"
        assert container["envFrom"][0]["configMapRef"]["name"] == config["metadata"]["name"]
    # The runbook applies what has no such label first, then the migration, then everything.
    component = "app.kubernetes.io/component"
    labels = {
        _name(one): one["metadata"]["labels"]
        for one in plain
        if one["kind"] in {"Deployment", "Job"}
    }
    assert all(label[component] == name for name, label in labels.items())
    assert component not in config["metadata"]["labels"]
    # With KEDA the number of workers is its own.
    kustomization = tmp_path / "k8s" / "kustomization.yaml"
    text = kustomization.read_text()
    assert "# components: [keda]" in text
    kustomization.write_text(text.replace("# components: [keda]", "components: [keda]"))
    scaled = _built(kubectl, tmp_path / "k8s")
    [worker] = [one for one in scaled if one["kind"] == "Deployment" and _name(one) == "worker"]
    assert "replicas" not in worker["spec"]
    assert {"ScaledObject", "TriggerAuthentication"} <= {one["kind"] for one in scaled}


def _built(kubectl: str, directory: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(_run([kubectl, "kustomize", directory])[0]))


def _name(document: dict[str, Any]) -> str:
    return str(document["metadata"]["name"])


def test_hadolint_has_nothing_to_say_of_the_dockerfile() -> None:
    _run([BIN / "hadolint", reading.DOCKERFILE])


def test_systemd_understands_every_unit_and_finds_little_that_is_open(tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    shutil.copytree(reading.UNITS, tmp_path / "units")
    units = []
    for path in sorted((tmp_path / "units").glob("trunkline-*.service")):
        # Every program of a unit must be there to be verified.
        path.write_text(path.read_text().replace("/opt/trunkline/bin", str(BIN)))
        units.append(path.with_name(path.name.replace("@.", "@1.")))
    where = {"SYSTEMD_UNIT_PATH": f"{tmp_path / 'units'}:"}
    for unit in units:
        _, complaints = _run([analyze, "verify", "--man=no", unit], **where)
        assert "trunkline" not in complaints
        # Of 100, as `systemd-analyze security` counts; 0 is closed.
        judge = ["security", "--offline=true", "--threshold=15", "--no-pager"]
        _run([analyze, *judge, unit], **where)
