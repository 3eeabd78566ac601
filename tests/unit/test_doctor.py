"""What the command says of a database, a clock and a broker that it was told of."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from tests.conftest import make_settings
from worker.celery_app import BrokerFacts, require_flower_login
from worker.cli.doctor import Finding, judge_broker, judge_clock, judge_database
from worker.db.facts import DatabaseFacts
from worker.settings import Environment

DEVELOPMENT = make_settings("postgresql://h/d")
PRODUCTION = DEVELOPMENT.model_copy(update={"env": Environment.PRODUCTION})
SOUND = DatabaseFacts(
    ahead_seconds=0.0,
    fsync="on",
    full_page_writes="on",
    synchronous_commit="on",
    most_connections=100,
    connections=10,
)
REDIS = BrokerFacts(maxmemory_policy="noeviction", maxmemory=0, persists=True)


def told(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(str(one.verdict), one.advice) for one in findings]


def test_a_sound_database_and_broker_need_no_word() -> None:
    assert told(judge_database(SOUND, PRODUCTION)) == []
    assert told(judge_broker(REDIS, PRODUCTION)) == []
    for seconds in (0.0, 1.9, -1.9):
        assert told(judge_clock(seconds)) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fsync": "off"}, "fsync"),
        ({"full_page_writes": "off"}, "full_page_writes"),
        ({"synchronous_commit": "off"}, "202"),
        ({"synchronous_commit": "local"}, "202"),
    ],
)
def test_a_database_that_may_lose_jobs_fails_production(change: dict[str, str], says: str) -> None:
    [(verdict, advice)] = told(judge_database(replace(SOUND, **change), PRODUCTION))  # type: ignore[arg-type]
    assert (verdict, says in advice) == ("failed", True)
    [(verdict, _)] = told(judge_database(replace(SOUND, **change), DEVELOPMENT))  # type: ignore[arg-type]
    assert verdict == "warning"


@pytest.mark.parametrize("level", ["on", "remote_write", "remote_apply"])
def test_a_replica_s_levels_of_commit_are_as_good(level: str) -> None:
    assert told(judge_database(replace(SOUND, synchronous_commit=level), PRODUCTION)) == []


def test_connections_that_will_not_do_are_a_warning() -> None:
    # API, worker and beat: three pools of 30 at the most.
    [(verdict, advice)] = told(judge_database(replace(SOUND, most_connections=89), PRODUCTION))
    assert (verdict, "30" in advice) == ("warning", True)
    assert told(judge_database(replace(SOUND, most_connections=90), PRODUCTION)) == []
    [(verdict, advice)] = told(judge_database(replace(SOUND, connections=95), PRODUCTION))
    assert (verdict, "95 of 100" in advice) == ("warning", True)


def test_clocks_that_disagree_fail() -> None:
    [(verdict, advice)] = told(judge_clock(3.0))
    assert (verdict, "3.0 seconds ahead of" in advice) == ("failed", True)
    [(verdict, advice)] = told(judge_clock(-3.0))
    assert (verdict, "3.0 seconds behind" in advice) == ("failed", True)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "allkeys-random"])
def test_a_broker_that_evicts_fails_production(policy: str) -> None:
    facts = replace(REDIS, maxmemory_policy=policy)
    [(verdict, advice)] = told(judge_broker(facts, PRODUCTION))
    assert (verdict, "noeviction" in advice) == ("failed", True)
    [(verdict, _)] = told(judge_broker(facts, DEVELOPMENT))
    assert verdict == "warning"


def test_a_broker_that_forgets_or_says_nothing_is_a_warning() -> None:
    [(verdict, advice)] = told(judge_broker(replace(REDIS, persists=False), PRODUCTION))
    assert (verdict, "appendonly" in advice) == ("warning", True)
    silent = BrokerFacts(maxmemory_policy=None, maxmemory=None, persists=None)
    [(verdict, advice)] = told(judge_broker(silent, PRODUCTION))
    assert (verdict, "noeviction" in advice) == ("warning", True)


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["-A", "worker.celery_app", "worker"], {}),
        (["flower"], {"FLOWER_BASIC_AUTH": "u:p"}),
        (["flower"], {"FLOWER_AUTH": ".*@example.com"}),
        (["flower", "--basic-auth=u:p"], {}),
        (["flower", "--basic_auth=u:p"], {}),
        (["flower", "--basic-auth", "u:p"], {}),
        (["flower", "--conf=/etc/flower.py"], {"FLOWER_BASIC_AUTH": "u:p"}),
    ],
)
def test_flower_with_a_login_may_run(arguments: list[str], environment: dict[str, str]) -> None:
    require_flower_login(arguments, environment)


@pytest.mark.parametrize(
    "arguments",
    [
        ["flower"],
        ["-A", "worker.celery_app", "flower", "--port=5555"],
        ["flower", "--basic-auth="],
        ["flower", "--auth="],
        ["flower", "--basic-auth", "--port=5555"],
        ["flower", "--basic-auth"],
        # What such a file holds is not known here.
        ["flower", "--conf=/etc/flower.py"],
    ],
)
def test_flower_without_a_login_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="FLOWER_BASIC_AUTH=user:password"):
        require_flower_login(arguments, {"FLOWER_BASIC_AUTH": "", "FLOWER_PORT": "5555"})


@pytest.mark.parametrize("env", ["development", "production"])
def test_flower_without_a_login_does_not_start(tmp_path: Path, env: str) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "TRUNKLINE_ENV": env,
        "TRUNKLINE_DATABASE_URL": "postgresql://u@127.0.0.1:1/d",
        "TRUNKLINE_BROKER_URL": "redis://127.0.0.1:1/0",
        "TRUNKLINE_VAULT_KEYS": Fernet.generate_key().decode(),
        "TRUNKLINE_PUBLIC_BASE_URL": "https://voice.trunkline.example",
        "LIVEKIT_URL": "wss://livekit.trunkline.example",
        "LIVEKIT_API_KEY": "APIq3Zx8LmTt2v",
        "LIVEKIT_API_SECRET": "Jr8QmW2xVd5kTn7bYc4gHf6sLp9zAa3eUu1iOo0w",
        "LIVEKIT_SIP_URI": "sip:p.sip.livekit.example",
        "FLOWER_BASIC_AUTH": "",
    }
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker.celery_app", "flower", "--port=0"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "FLOWER_BASIC_AUTH=user:password" in done.stderr
    assert "Traceback" not in done.stderr
