from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import AliasChoices, SecretStr, ValidationError

from tests.conftest import make_settings
from worker.intake import explain
from worker.settings import VENDOR_URLS, Environment, Settings

#: A key as good as any, and the same in each process that collects these tests.
VAULT_KEY = base64.urlsafe_b64encode(hashlib.sha256(b"sandbox").digest()).decode()


def test_nothing_secret_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "BROKER_URL", "VAULT_KEYS", "PUBLIC_BASE_URL"):
        monkeypatch.delenv(f"TRUNKLINE_{name}", raising=False)
    for name in ("URL", "API_KEY", "API_SECRET", "SIP_URI"):
        monkeypatch.delenv(f"LIVEKIT_{name}", raising=False)
    with pytest.raises(ValidationError) as caught:
        Settings()
    missing = {str(fault["loc"][0]) for fault in caught.value.errors()}
    assert missing == {
        "database_url",
        "broker_url",
        "vault_keys",
        "public_base_url",
        "LIVEKIT_URL",
        "LIVEKIT_API_KEY",
        "LIVEKIT_API_SECRET",
        "LIVEKIT_SIP_URI",
    }


def test_the_environment_is_read_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "TRUNKLINE_ENV": "development",
        "TRUNKLINE_DATABASE_URL": "postgresql://h/d",
        "TRUNKLINE_BROKER_URL": "redis://h/0",
        "TRUNKLINE_VAULT_KEYS": "one, two",
        "TRUNKLINE_PUBLIC_BASE_URL": "http://127.0.0.1/",
        "LIVEKIT_URL": "http://127.0.0.1:1",
        "LIVEKIT_API_KEY": "k",
        "LIVEKIT_API_SECRET": "s" * 32,
        "LIVEKIT_SIP_URI": "sip:x.example",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert [key.get_secret_value() for key in settings.vault_keys] == ["one", "two"]
    assert settings.public_base_url == "http://127.0.0.1"
    assert settings.livekit_sip_host == "x.example"
    assert "ssss" not in repr(settings)


SAFE: dict[str, object] = {
    "env": Environment.PRODUCTION,
    "trusted_hosts": "livekit.internal, postgres, 10.8.0.0/16",
    "database_url": "postgresql://u:p9Xw4vTq@db.example.com/d?sslmode=verify-full",
    "broker_url": "rediss://:p9Xw4vTq@broker.example.com:6379/0",
    "vault_keys": Fernet.generate_key().decode(),
    "public_base_url": "https://voice.example.com",
    "LIVEKIT_URL": "wss://acme.livekit.cloud",
    "LIVEKIT_API_KEY": "APIq3Zx8LmTt2v",
    "LIVEKIT_API_SECRET": "Jr8QmW2xVd5kTn7bYc4gHf6sLp9zAa3eUu1iOo0w",
}
URLS = [name.upper() for name in VENDOR_URLS]


def production(**changes: object) -> Settings:
    values = {**SAFE, **changes}
    return make_settings(str(values.pop("database_url")), **values)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"database_url": "postgresql://u@127.0.0.1/d"},
        {"database_url": "postgresql://u@[::1]:5432/d"},
        {"database_url": "postgresql://u@/d?host=/var/run/postgresql"},
        {"database_url": "postgresql://u:p@%2Fvar%2Frun%2Fpostgresql/d"},
        {"database_url": "postgresql://u:password@postgres/d"},
        {"database_url": "postgresql://u:p@10.8.3.4,10.8.3.5/d"},
        {"database_url": "postgresql://u:p9Xw4vTq@db.example.com/d?sslmode=require"},
        {"broker_url": "redis://127.0.0.1:6379/0"},
        {"broker_url": "redis://localhost/0"},
        {"broker_url": "redis+socket:///var/run/redis.sock"},
        {"broker_url": "redis://10.8.0.7:6379/0"},
        {"broker_url": "amqps://u:p9Xw4vTq@mq.example.com//"},
        {"broker_url": "rediss://b.example.com?ssl_certfile=/c&ssl_keyfile=/k"},
        {"LIVEKIT_URL": "https://livekit.example.com"},
        {"LIVEKIT_URL": "ws://livekit.internal:7880"},
        {"LIVEKIT_URL": "http://127.0.0.1:7880"},
        {"self_test_base_url": "http://127.0.0.1:8080"},
        {"self_test_base_url": "https://proxy.example.com"},
        {"log_level": "warning"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://otlp.example.com"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"TELNYX_API_BASE_URL": "https://api.telnyx.eu/v2"},
        {"TWILIO_API_BASE_URL": None},
    ],
    ids=str,
)
def test_production_takes_what_is_safe(changes: dict[str, object]) -> None:
    production(**changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"database_url": "postgresql://u:p@db.example.com/d"}, "DATABASE_URL.*sslmode"),
        ({"database_url": "postgresql://u:p@db.example.com/d?sslmode=prefer"}, "DATABASE_URL"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otlp.example.com"}, "OTLP_ENDPOINT.*https"),
        ({"database_url": "postgresql://u:p@db.example.com/d?sslmode=disable"}, "DATABASE_URL"),
        (
            {"database_url": "postgresql://u:p@127.0.0.1/d?host=db.example.com"},
            "DATABASE_URL",
        ),
        ({"database_url": "postgresql://u:p@10.8.0.1,10.9.0.1/d"}, "DATABASE_URL"),
        (
            {"database_url": "postgresql://u:changeme@db.example.com/d?sslmode=require"},
            "DATABASE_URL.*guess",
        ),
        (
            {"database_url": "postgresql://u:postgres1@db.example.com/d?sslmode=require"},
            "DATABASE_URL.*guess",
        ),
        ({"database_url": "mysql://u:p@localhost/d"}, "DATABASE_URL.*postgresql"),
        ({"broker_url": "redis://:p9Xw4vTq@broker.example.com/0"}, "BROKER_URL.*rediss"),
        ({"broker_url": "redis://:p9Xw4vTq@10.9.0.1/0"}, "BROKER_URL.*TRUSTED_HOSTS"),
        ({"broker_url": "amqp://u:p9Xw4vTq@mq.example.com//"}, "BROKER_URL.*amqps"),
        ({"broker_url": "amqps://guest:guest@mq.example.com//"}, "BROKER_URL.*password"),
        ({"broker_url": "rediss://broker.example.com/0"}, "BROKER_URL.*password"),
        ({"broker_url": "rediss://:redis@broker.example.com/0"}, "BROKER_URL.*password"),
        (
            {"broker_url": "rediss://:p9Xw4vTq@b.example.com/0?ssl_cert_reqs=CERT_NONE"},
            "BROKER_URL.*ssl_cert_reqs",
        ),
        (
            {"broker_url": "sentinel://127.0.0.1:26379;sentinel://b.example.com:26379"},
            "BROKER_URL",
        ),
        ({"vault_keys": "one"}, "VAULT_KEYS.*no key"),
        ({"vault_keys": "A" * 43 + "="}, "VAULT_KEYS.*not random"),
        (
            {"vault_keys": base64.urlsafe_b64encode(b"0123456789abcdef0123456789abcdef").decode()},
            "VAULT_KEYS.*not random",
        ),
        ({"vault_keys": f"{VAULT_KEY},short"}, "VAULT_KEYS.*no key"),
        ({"public_base_url": "http://voice.example.com"}, "PUBLIC_BASE_URL.*https"),
        ({"public_base_url": "http://postgres"}, "PUBLIC_BASE_URL.*https"),
        ({"public_base_url": "https://u:p@voice.example.com"}, "PUBLIC_BASE_URL.*user name"),
        ({"public_base_url": "https:///x"}, "PUBLIC_BASE_URL.*host"),
        ({"self_test_base_url": "http://proxy.example.com"}, "SELF_TEST_BASE_URL.*https"),
        ({"LIVEKIT_URL": "ws://livekit.example.com"}, "LIVEKIT_URL.*TRUSTED_HOSTS"),
        ({"LIVEKIT_URL": "http://livekit.example.com"}, "LIVEKIT_URL.*wss"),
        ({"LIVEKIT_API_KEY": "devkey"}, "LIVEKIT_API_KEY"),
        ({"LIVEKIT_API_SECRET": "a" * 40}, "LIVEKIT_API_SECRET.*random"),
        ({"LIVEKIT_API_SECRET": "changeme" * 5}, "LIVEKIT_API_SECRET.*random"),
        ({"LIVEKIT_API_SECRET": "your-livekit-api-key-goes-here-0123456789"}, "LIVEKIT_API_SECRET"),
        ({"notify_loopback": True}, "NOTIFY_LOOPBACK"),
        ({"log_level": "LOUD"}, "log_level"),
        ({"log_format": "xml"}, "log_format"),
        *(({name: "http://api.example.com"}, f"{name}.*https") for name in URLS),
        *(({name: "http://postgres/x"}, f"{name}.*https") for name in URLS),
        *(({name: "https://127.0.0.1:9000/x"}, f"{name}.*this machine") for name in URLS[:2]),
        ({URLS[0]: "https://localhost/x"}, "this machine"),
        ({URLS[0]: "https://[::1]/x"}, "this machine"),
    ],
    ids=str,
)
def test_production_refuses_what_is_unsafe(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        production(**changes)
    [fault] = caught.value.errors()
    assert re.search(says, f"{fault['loc']} {fault['msg']}"), fault
    # What is demanded of production binds no development.
    if "LOUD" not in changes.values() and "xml" not in changes.values():
        production(**changes, env=Environment.DEVELOPMENT)


def test_an_environment_variable_of_libpq_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://u:p9Xw4vTq@db.example.com/d"
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    production(database_url=url)
    monkeypatch.setenv("PGSSLMODE", "allow")
    with pytest.raises(ValidationError):
        production(database_url=url)


UNSAFE = {
    "TRUNKLINE_DATABASE_URL": "postgresql://u:planted@db.example.com/d",
    "TRUNKLINE_BROKER_URL": "redis://:planted@broker.example.com/0",
    "TRUNKLINE_VAULT_KEYS": "planted-key",
    "TRUNKLINE_PUBLIC_BASE_URL": "http://planted.example.com",
    "TRUNKLINE_SELF_TEST_BASE_URL": "http://planted.example.com",
    "TRUNKLINE_NOTIFY_LOOPBACK": "true",
    "TRUNKLINE_LOG_LEVEL": "planted",
    "LIVEKIT_URL": "ws://planted.example.com",
    "LIVEKIT_API_KEY": "devkey-planted",
    "LIVEKIT_API_SECRET": "planted-secret-of-some-example-text-0123",
    "LIVEKIT_SIP_URI": "planted",
    "TWILIO_API_BASE_URL": "http://planted.example.com",
}


def test_all_is_told_at_once_and_nothing_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in UNSAFE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRUNKLINE_ENV", "production")
    with pytest.raises(ValidationError) as caught:
        Settings()
    said = f"{explain(caught.value)} {caught.value}"
    assert [name for name in UNSAFE if name not in said and name != "TRUNKLINE_LOG_LEVEL"] == []
    assert "log_level" in said
    assert "planted" not in said


def test_an_environment_that_is_none_is_held_to_production(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in UNSAFE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRUNKLINE_ENV", "staging")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert "TRUNKLINE_DATABASE_URL" in str(caught.value)


def test_the_example_gives_no_secret() -> None:
    """What stands in an example is what somebody runs with."""
    example = (Path(__file__).parents[2] / "deploy" / ".env.example").read_text()
    given = dict(re.findall(r"^#?([A-Z][A-Z0-9_]+)=(\S+)", example, re.MULTILINE))
    assert not [name for name in given if re.search(r"KEYS?$|SECRET|PASSWORD|URL|URI", name)]


def test_a_call_must_fit_into_a_lease() -> None:
    with pytest.raises(ValidationError, match="outlive its lease"):
        make_settings("postgresql://h/d", lease_seconds=8, read_timeout_seconds=6)


@pytest.mark.parametrize("uri", ["x.sip.livekit.cloud", "sip:a@b.example", "sip:b;transport=tcp"])
def test_the_livekit_sip_uri_is_a_plain_one(uri: str) -> None:
    with pytest.raises(ValidationError):
        make_settings("postgresql://h/d", LIVEKIT_SIP_URI=uri)


def test_an_open_network_is_refused() -> None:
    with pytest.raises(ValidationError):
        make_settings("postgresql://h/d", twilio_signalling_addresses="0.0.0.0/0")


def test_secrets_do_not_show_in_a_repr() -> None:
    settings = make_settings(
        "postgresql://u:planted@h/d", LIVEKIT_API_SECRET=SecretStr("planted" * 5)
    )
    assert "planted" not in repr(settings)


def test_the_example_names_every_setting_and_no_other() -> None:
    example = (Path(__file__).parents[2] / "deploy" / ".env.example").read_text()
    named = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", example, re.MULTILINE))
    known = {
        field.validation_alias.choices[0]
        if isinstance(field.validation_alias, AliasChoices)
        else f"TRUNKLINE_{name.upper()}"
        for name, field in Settings.model_fields.items()
    }
    # Flower reads the first; compose.yaml makes URLs of the others.
    assert named == known | {"FLOWER_BASIC_AUTH", "POSTGRES_PASSWORD", "REDIS_PASSWORD"}


@pytest.mark.parametrize("port", [0, -1, 65536, "nine"])
def test_a_metrics_port_that_is_none_is_refused(port: object) -> None:
    with pytest.raises(ValidationError, match="metrics_port"):
        make_settings("postgresql://h/d", metrics_port=port)


def test_a_short_livekit_secret_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 32"):
        make_settings("postgresql://h/d", LIVEKIT_API_SECRET=SecretStr("short"))


def test_a_refused_secret_is_not_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        make_settings("postgresql://h/d", LIVEKIT_API_SECRET="planted")
    assert "planted" not in str(caught.value)
