"""What compose, Kubernetes and systemd are told to run, in one form, so that it can be run here.

Only what these files use is understood; anything else in them fails a test instead of being guessed
at. What an operator fills in comes from the examples beside them.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from cryptography.fernet import Fernet

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
PARTS: Final = ("migrate", "api", "worker", "beat", "flower")
COMPOSE: Final = DEPLOY / "compose.yaml"
DOCKERFILE: Final = DEPLOY / "Dockerfile"
K8S: Final = DEPLOY / "k8s"
UNITS: Final = DEPLOY / "systemd"
COMMON_UNIT: Final = UNITS / "trunkline-.service.d" / "common.conf"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How it is seen that a process is well: by a command, or by a URL that answers 200."""

    command: tuple[str, ...] = ()
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process as a manifest has it."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    probes: tuple[Probe, ...] = ()
    #: How long it may take to end after SIGTERM before it is killed.
    grace_seconds: float
    raw: Any = field(repr=False)


def env_file(text: str) -> dict[str, str]:
    """Reads NAME=value lines, as compose, systemd and kubectl do."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


# compose


class NotSetError(ValueError):
    """A variable that must be set is not."""


_VARIABLE: Final = re.compile(r"\$(?:(\$)|\{(\w+)(?::([-?])((?:[^{}]|\{[^{}]*\})*))?\})")


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Puts variables in, as compose does.

    https://docs.docker.com/reference/compose-file/interpolation
    """

    def value(found: re.Match[str]) -> str:
        dollar, name, operator, rest = found.groups()
        if dollar:
            return "$"
        if variables.get(name):
            return variables[name]
        if operator == "?":
            raise NotSetError(f"{name}: {rest}")
        return interpolate(rest or "", variables)

    return _VARIABLE.sub(value, text)


def compose_document() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return document


def compose(dotenv: Mapping[str, str]) -> dict[str, Part]:
    """Returns every service, with what deploy/.env says."""
    return {
        name: _compose_part(service, dotenv)
        for name, service in compose_document()["services"].items()
    }


def _compose_part(service: Mapping[str, Any], dotenv: Mapping[str, str]) -> Part:
    own = service.get("environment", {})
    environment = {name: interpolate(str(value), dotenv) for name, value in own.items()}
    if "env_file" in service:
        assert service["env_file"] == ".env"
        environment = {**dotenv, **environment}
    if service.get("image") == "trunkline":
        environment = {**image_environment(), **environment}
    return Part(
        command=tuple(interpolate(word, dotenv) for word in service["command"]),
        environment=environment,
        probes=_health(service.get("healthcheck", {}), dotenv),
        grace_seconds=_seconds(service.get("stop_grace_period", "10s")),
        raw=service,
    )


def _health(check: Mapping[str, Any], dotenv: Mapping[str, str]) -> tuple[Probe, ...]:
    if "test" not in check:
        return ()
    kind, *words = (interpolate(word, dotenv) for word in check["test"])
    command = {"CMD": words, "CMD-SHELL": ["/bin/sh", "-c", *words]}[kind]
    return (Probe(command=tuple(command)),)


def _seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text[:-1])


def image_environment() -> dict[str, str]:
    """What the Dockerfile sets for every process."""
    final = _instructions()["ENV"]
    return dict(word.split("=", 1) for word in shlex.split(final) if not word.startswith("PATH="))


def image_command() -> tuple[str, ...]:
    return tuple(json.loads(_instructions()["CMD"]))


def image_probe() -> tuple[str, ...]:
    return tuple(json.loads(_instructions()["HEALTHCHECK"].partition(" CMD ")[2]))


def image_user() -> str:
    return _instructions()["USER"]


def _instructions() -> dict[str, str]:
    """The instructions of the image itself, after the last FROM; there is no ENTRYPOINT."""
    text = DOCKERFILE.read_text().rpartition("\nFROM ")[2].replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines()[1:] if line[:1] not in {"", "#"}]
    assert "ENTRYPOINT" not in dict(lines)
    return dict(lines)


# Kubernetes


def k8s_documents(directory: Path = K8S) -> list[dict[str, Any]]:
    """Every object of the manifests, as written."""
    resources = yaml.safe_load((directory / "kustomization.yaml").read_text())["resources"]
    return [
        document
        for name in resources
        for document in yaml.safe_load_all((directory / name).read_text())
    ]


def k8s_config() -> dict[str, str]:
    """What the generated ConfigMap holds."""
    document = yaml.safe_load((K8S / "kustomization.yaml").read_text())
    [generated] = document["configMapGenerator"]
    return dict(literal.split("=", 1) for literal in generated["literals"])


def k8s(secrets: Mapping[str, Mapping[str, str]]) -> dict[str, Part]:
    """Returns every pod's container, with these Secrets in the namespace."""
    return {
        document["metadata"]["name"]: _k8s_part(document["spec"]["template"]["spec"], secrets)
        for document in k8s_documents()
        if document["kind"] in {"Deployment", "Job"}
    }


def _k8s_part(pod: Mapping[str, Any], secrets: Mapping[str, Mapping[str, str]]) -> Part:
    [container] = pod["containers"]
    environment = image_environment()
    for source in container["envFrom"]:
        [(kind, reference)] = source.items()
        maps = {"configMapRef": {"trunkline": k8s_config()}, "secretRef": secrets}
        environment |= maps[kind][reference["name"]]
    for entry in container.get("env", ()):
        environment[entry["name"]] = _k8s_value(entry, container["name"], secrets)
    port = {one["name"]: one["containerPort"] for one in container.get("ports", ())}
    kinds = ("startupProbe", "readinessProbe", "livenessProbe")
    return Part(
        command=tuple(container["args"]),
        environment=environment,
        probes=tuple(_k8s_probe(container[kind], port) for kind in kinds if kind in container),
        grace_seconds=pod.get("terminationGracePeriodSeconds", 30),
        raw=pod,
    )


def _k8s_value(entry: Mapping[str, Any], pod: str, secrets: Mapping[str, Mapping[str, str]]) -> str:
    if "value" in entry:
        return str(entry["value"])
    [(kind, reference)] = entry["valueFrom"].items()
    if kind == "fieldRef":
        return {"metadata.name": f"{pod}-0"}[reference["fieldPath"]]
    assert kind == "secretKeyRef"
    return secrets[reference["name"]][reference["key"]]


def _k8s_probe(probe: Mapping[str, Any], port: Mapping[str, int]) -> Probe:
    if "exec" in probe:
        return Probe(command=tuple(probe["exec"]["command"]))
    get = probe["httpGet"]
    return Probe(url=f"http://127.0.0.1:{port[get['port']]}{get['path']}")


# systemd


def systemd(files: Mapping[str, str]) -> dict[str, Part]:
    """Returns every service, with these environment files on the machine."""
    found = {}
    for path in sorted(UNITS.glob("trunkline-*.service")):
        name = path.stem.removeprefix("trunkline-")
        found[name.removesuffix("@")] = _unit_part(path, files, instance="1")
    return found


def unit_settings(path: Path) -> list[tuple[str, str]]:
    """The lines of a service, those of the common drop-in last, as systemd reads them."""
    lines = [*path.read_text().splitlines(), *COMMON_UNIT.read_text().splitlines()]
    pairs = (line.partition("=") for line in lines if line and line[0] not in "#[")
    return [(name, value) for name, _, value in pairs]


def _unit_part(path: Path, files: Mapping[str, str], *, instance: str) -> Part:
    settings = unit_settings(path)
    last = dict(settings)
    environment: dict[str, str] = {}
    for name, value in settings:
        if name == "Environment":
            words = shlex.split(_specifiers(value, instance))
            environment |= dict(word.split("=", 1) for word in words)
    # These win: https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html
    environment |= env_file(files[last["EnvironmentFile"]])
    return Part(
        command=tuple(shlex.split(_specifiers(last["ExecStart"], instance))),
        environment=environment,
        grace_seconds=float(last.get("TimeoutStopSec", "90")),
        raw=last,
    )


def _specifiers(text: str, instance: str) -> str:
    return re.sub("%(.)", lambda found: {"i": instance, "%": "%"}[found[1]], text)


# What they have in common


def bare(command: Sequence[str]) -> tuple[str, ...]:
    """A command without what may differ: where it is installed and listens, what it is called."""
    return tuple(_bare(command))


def _bare(command: Sequence[str]) -> Iterator[str]:
    for word in command:
        word = word.removeprefix("/opt/trunkline/bin/")  # noqa: PLW2901 -- the same word, shorter
        word = re.sub(r"\b(0\.0\.0\.0|127\.0\.0\.1)$", "HOST", word)  # noqa: PLW2901 -- same
        yield re.sub(r"^worker1?@%h$", "worker@%h", word)


def production() -> dict[str, str]:
    """What every operator must set, as production accepts it."""
    return {
        "TRUNKLINE_VAULT_KEYS": Fernet.generate_key().decode(),
        "TRUNKLINE_PUBLIC_BASE_URL": "https://voice.trunkline.example",
        "LIVEKIT_URL": "wss://project.livekit.example",
        "LIVEKIT_API_KEY": f"API{secrets.token_hex(6)}",
        "LIVEKIT_API_SECRET": secrets.token_urlsafe(32),
        "LIVEKIT_SIP_URI": "sip:project.sip.livekit.example",
    }
