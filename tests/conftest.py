"""Real parts for every test: one Postgres per test process, a fresh database per test."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from deploy.local.postgres import EmbeddedPostgres
from worker.db.engine import migrate
from worker.settings import Environment, Settings

_TEMPLATE = "template_migrated"
_numbers = itertools.count()


def make_settings(database_url: str, **changes: object) -> Settings:
    """Settings of a test: everything fast, nothing taken from the environment."""
    values: dict[str, object] = {
        "env": Environment.DEVELOPMENT,
        "database_url": SecretStr(database_url),
        "broker_url": SecretStr("redis://127.0.0.1:1/0"),
        "vault_keys": (SecretStr(Fernet.generate_key().decode()),),
        "public_base_url": "https://voice.trunkline.example",
        "LIVEKIT_URL": "http://127.0.0.1:1/livekit",
        "LIVEKIT_API_KEY": "sandbox-key",
        "LIVEKIT_API_SECRET": SecretStr("sandbox-secret-that-is-long-enough"),
        "LIVEKIT_SIP_URI": "sip:sandbox.sip.livekit.example",
        "resend_after_seconds": 2.0,
    }
    return Settings(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    # Not in pytest's own directory: it removes those of older runs, also of one that still goes on.
    with (
        tempfile.TemporaryDirectory(prefix="trunkline-", ignore_cleanup_errors=True) as directory,
        EmbeddedPostgres(Path(directory), fsync=False) as server,
    ):
        server.create_database(_TEMPLATE)
        migrate(make_settings(server.url(_TEMPLATE)))
        yield server


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    postgres.create_database(name, template=_TEMPLATE)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
def settings(database_url: str) -> Settings:
    return make_settings(database_url)
