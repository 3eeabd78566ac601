"""Real parts for every test: one Postgres per test process, a fresh database per test."""

from __future__ import annotations

import itertools
import logging
import re
import signal
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography.fernet import Fernet
from pydantic import SecretStr

from deploy.local.postgres import EmbeddedPostgres
from worker.db.engine import migrate
from worker.domain.values import ProviderName
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


def pytest_configure() -> None:
    # A shell that runs this in the background lets it ignore SIGINT, and so would every program
    # that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _loggers_can_be_captured() -> Iterator[None]:
    """What one test configures must not tie a module's logger to it for all that follow."""
    configure = structlog.configure

    def without_caching(**settings: Any) -> None:
        configure(**{**settings, "cache_logger_on_first_use": False})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", without_caching)
        yield


@pytest.fixture(autouse=True)
def _process_is_put_back() -> Iterator[None]:
    """What configures a process's logs, as its commands do, configures the tests' process."""
    hooks, levels = (sys.excepthook, threading.excepthook), {}
    for name in ("worker", "api_stub", "uvicorn", "alembic"):
        levels[name] = logging.getLogger(name).level
    yield
    sys.excepthook, threading.excepthook = hooks
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what the contract suites showed: of every provider, and of every dialect."""
    _summarize_providers(terminalreporter)
    _summarize_dialects(terminalreporter)


def _summarize_dialects(terminalreporter: pytest.TerminalReporter) -> None:
    """A row a published contract: how many lines of its document hold, and which do not."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    broken: list[str] = []
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, ()):
            path, _, test = report.nodeid.partition("::")
            if path != "tests/contract/dialects/test_conformance.py":
                continue
            contract, _, case = test.partition("[")[2].removesuffix("]").partition("-")
            found[contract][outcome] += 1
            if outcome != "passed":
                broken.append(f"{contract}: {case}")
    if not found:
        return
    terminalreporter.section("conformance: published contracts, line by line")
    terminalreporter.write_line(f"{'contract':<12}{'holds':>8}{'broken':>8}")
    for contract in sorted(found):
        holds, cases = found[contract]["passed"], found[contract].total()
        terminalreporter.write_line(f"{contract:<12}{holds:>8}{cases - holds:>8}")
    for line in broken:
        terminalreporter.write_line(f"  broken: {line}")


def _summarize_providers(terminalreporter: pytest.TerminalReporter) -> None:
    """A row a case, a column a provider."""
    counts: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            path, _, test = report.nodeid.partition("::")
            title, _, example = test.partition("[")
            parts = re.split(r"[-\]]", example)
            provider = next((str(name) for name in ProviderName if name in parts), None)
            if path.startswith("tests/contract/providers/") and provider is not None:
                case = title.removeprefix("test_").replace("_", " ")
                counts[f"{Path(path).stem.removeprefix('test_')}: {case}"][provider, outcome] += 1
    if not counts:
        return
    providers = sorted({provider for row in counts.values() for provider, _ in row})
    terminalreporter.section("provider contract: passed (failed)")
    width = max(map(len, counts))
    terminalreporter.write_line(" " * width + "".join(f"{name:>12}" for name in providers))
    for case in sorted(counts):
        cells = []
        for provider in providers:
            failed = counts[case][provider, "failed"]
            cells.append(f"{counts[case][provider, 'passed']}" + (f" ({failed})" if failed else ""))
        terminalreporter.write_line(f"{case:<{width}}" + "".join(f"{cell:>12}" for cell in cells))
