from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import AliasChoices, SecretStr, ValidationError

from tests.conftest import make_settings
from worker.settings import Environment, Settings


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


@pytest.mark.parametrize(
    "changes",
    [
        {"public_base_url": "http://voice.example.com"},
        {"LIVEKIT_URL": "ws://livekit.example.com"},
        {"notify_loopback": True},
    ],
)
def test_production_refuses_plain_text_and_loopback(changes: dict[str, object]) -> None:
    safe = {"public_base_url": "https://a.example", "LIVEKIT_URL": "wss://l.example"}
    make_settings("postgresql://h/d", env=Environment.PRODUCTION, **safe)
    with pytest.raises(ValidationError):
        make_settings("postgresql://h/d", env=Environment.PRODUCTION, **{**safe, **changes})


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
    assert named == known


def test_a_short_livekit_secret_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 32"):
        make_settings("postgresql://h/d", LIVEKIT_API_SECRET=SecretStr("short"))


def test_a_refused_secret_is_not_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        make_settings("postgresql://h/d", LIVEKIT_API_SECRET="planted")
    assert "planted" not in str(caught.value)
