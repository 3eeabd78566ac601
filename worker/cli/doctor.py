"""What is reachable, safe and as it should be, what is not, and what to do about it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import typer
from rich.text import Text

from worker.celery_app import BrokerFacts, read_broker
from worker.cli._core import OUT, AsJson, Exit, settings_of_environment, show_json
from worker.db.engine import DATABASE_ERRORS, make_engine, revisions, schema_is_newer
from worker.db.facts import DatabaseFacts, read_facts, read_newest_sealed
from worker.db.repository import JobRepository
from worker.db.sweeps import Sweeps
from worker.db.vault import Vault, VaultKeyMissingError
from worker.domain.errors import TrunklineError
from worker.domain.job import Attempt, Lease, StepName
from worker.domain.values import ImportTag
from worker.livekit import LiveKit
from worker.logs import printable
from worker.safety import ENCRYPTED, vault_key_fault
from worker.settings import Environment, Settings, late_sweep

#: A clock that is further off spoils leases, signatures' time limits and LiveKit's tokens.
_FURTHEST_SECONDS: Final = 2.0
#: The API, a worker and beat: what connects to the database at the least.
_FEWEST_PROCESSES: Final = 3
_ENV_FILES: Final = (".env", "deploy/.env")


class Verdict(StrEnum):
    """What an examination comes to."""

    OK = "ok"
    #: It works, and somebody should know.
    WARNING = "warning"
    #: It does not work, or loses what it should keep.
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    verdict: Verdict
    #: What it is and what to do, in a sentence.
    advice: str


def doctor(as_json: AsJson = False) -> None:
    """Tells what is reachable, safe and in order, what is not, and what to do about it.

    Exit codes: 0 nothing failed, 1 something did, 2 wrong or unsafe settings, each named.

    Example: trunkline doctor
    """
    settings = settings_of_environment()
    found = {name: _examine(check, settings) for name, check in _CHECKS.items()}
    if as_json:
        show_json({name: _as_json(findings) for name, findings in found.items()})
    else:
        for name, findings in found.items():
            _show(name, findings)
    if any(one.verdict is Verdict.FAILED for findings in found.values() for one in findings):
        raise typer.Exit(Exit.FAILED)


def _worst(findings: list[Finding]) -> Verdict:
    verdicts = {one.verdict for one in findings}
    return next((one for one in (Verdict.FAILED, Verdict.WARNING) if one in verdicts), Verdict.OK)


def _as_json(findings: list[Finding]) -> dict[str, object]:
    return {"verdict": _worst(findings), "advice": [one.advice for one in findings]}


_COLOURS: Final = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "red"}


def _show(name: str, findings: list[Finding]) -> None:
    worst = _worst(findings)
    head = Text.assemble(f"{name:<10} ", (str(worst), _COLOURS[worst]))
    OUT.print(head, soft_wrap=True)
    for one in findings:
        line = Text.assemble((f"  {one.verdict}: ", _COLOURS[one.verdict]), printable(one.advice))
        OUT.print(line, soft_wrap=True)


def _examine(check: Callable[[Settings], Iterator[Finding]], settings: Settings) -> list[Finding]:
    try:
        return list(check(settings))
    except DATABASE_ERRORS:
        return [_failed("unreachable; check TRUNKLINE_DATABASE_URL and that Postgres runs")]
    except OSError:
        return [_failed("unreachable; check TRUNKLINE_BROKER_URL and that the broker runs")]
    except TrunklineError as error:
        return [_failed(str(error))]


def _failed(advice: str) -> Finding:
    return Finding(verdict=Verdict.FAILED, advice=advice)


def _warning(advice: str) -> Finding:
    return Finding(verdict=Verdict.WARNING, advice=advice)


# Settings: what production refuses is told before any of this, when they are read


def _check_settings(settings: Settings) -> Iterator[Finding]:
    if settings.env is not Environment.PRODUCTION:
        yield _warning("TRUNKLINE_ENV is not production: unsafe settings are not refused")
    if settings.log_level == "DEBUG":
        yield _warning("TRUNKLINE_LOG_LEVEL is DEBUG; INFO says what an operator needs")
    options = parse_qs(urlsplit(settings.database_url.get_secret_value()).query)
    if options.get("sslmode", [""])[-1] in ENCRYPTED[:1]:
        yield _warning(
            "TRUNKLINE_DATABASE_URL encrypts without proving whom it talks to; use "
            "sslmode=verify-full with sslrootcert"
        )
    if settings.trusted_hosts:
        names = ", ".join(settings.trusted_hosts)
        yield _warning(f"without TLS to TRUNKLINE_TRUSTED_HOSTS ({names}), as you set it")
    if os.geteuid() == 0:
        yield _warning("runs as root; nothing here needs that, so give it a user of its own")
    if not any(os.environ.get(f"FLOWER_{name}") for name in ("BASIC_AUTH", "AUTH")):
        yield _warning("no FLOWER_BASIC_AUTH in this environment; Flower must not run without")
    for name in _ENV_FILES:
        path = Path(name)
        if path.is_file() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield _warning(f"{name} can be read by others; run chmod 600 {name}")


# The database


def _check_schema(settings: Settings) -> Iterator[Finding]:
    current, wanted = revisions(settings)
    # This release works on the schema of the next one, while that comes or goes.
    if current != wanted and not schema_is_newer(settings):
        yield _failed(
            f"the schema is at {current}, this release wants {wanted}; run `trunkline admin "
            "migrate`"
        )
        return
    yield from judge_database(read_facts(settings), settings)


def _check_jobs(settings: Settings) -> Iterator[Finding]:
    if any(one.verdict is Verdict.FAILED for one in _check_schema(settings)):
        return  # first things first
    engine = make_engine(settings)
    jobs = JobRepository(engine, resend_after_seconds=settings.resend_after_seconds)
    try:
        found = jobs.count_of_newer_release()
    finally:
        engine.dispose()
    if found:
        yield _failed(
            f"{found} were begun by a newer release; run a worker of that until they have ended"
        )


def _check_sweep(settings: Settings) -> Iterator[Finding]:
    if any(one.verdict is Verdict.FAILED for one in _check_schema(settings)):
        return  # first things first
    engine = make_engine(settings)
    sweeps = Sweeps(engine, resend_after_seconds=settings.resend_after_seconds)
    try:
        late = late_sweep(settings, sweeps.age_seconds())
    finally:
        engine.dispose()
    if late is not None:
        yield _failed(late)


def judge_database(facts: DatabaseFacts, settings: Settings) -> Iterator[Finding]:
    """Returns what of the database's own settings breaks a promise. Pure."""
    if facts.fsync != "on" or facts.full_page_writes != "on":
        yield _unsafe(settings, "fsync and full_page_writes must be on: a crash would lose jobs")
    if facts.synchronous_commit in {"off", "local"}:
        yield _unsafe(
            settings,
            f"synchronous_commit is {facts.synchronous_commit}: a job that was answered with 202 "
            "may be lost in a crash; set it to on",
        )
    pool = settings.database_pool_size + settings.database_max_overflow
    if facts.most_connections < pool * _FEWEST_PROCESSES:
        yield _warning(
            f"allows {facts.most_connections} connections, and each process may open {pool}: raise "
            "max_connections, lower TRUNKLINE_DATABASE_POOL_SIZE and _MAX_OVERFLOW, or use a pooler"
        )
    if facts.connections >= facts.most_connections * 0.9:
        yield _warning(
            f"{facts.connections} of {facts.most_connections} connections are taken; raise "
            "max_connections"
        )


def _unsafe(settings: Settings, advice: str) -> Finding:
    """Loses what must be kept, where anybody depends on it."""
    production = settings.env is Environment.PRODUCTION
    return _failed(advice) if production else _warning(advice)


def _check_clock(settings: Settings) -> Iterator[Finding]:
    # That the database is away is said where it belongs.
    with suppress(*DATABASE_ERRORS):
        yield from judge_clock(read_facts(settings).ahead_seconds)


def judge_clock(ahead_seconds: float) -> Iterator[Finding]:
    """Returns whether this machine and the database disagree about the time. Pure."""
    if abs(ahead_seconds) > _FURTHEST_SECONDS:
        way = "ahead of" if ahead_seconds > 0 else "behind"
        yield _failed(
            f"the database's clock is {abs(ahead_seconds):.1f} seconds {way} this machine's; let "
            "both follow NTP"
        )


def _check_vault(settings: Settings) -> Iterator[Finding]:
    try:
        vault = Vault(settings.vault_keys)
    except ValueError:
        yield _failed(
            "TRUNKLINE_VAULT_KEYS holds something that is no key; see `trunkline keys new`"
        )
        return
    if any(vault_key_fault(key.get_secret_value()) for key in settings.vault_keys):
        yield _unsafe(
            settings, "TRUNKLINE_VAULT_KEYS holds a key that is not random; see the runbook"
        )
    try:
        for sealed in _newest_sealed(settings):
            vault.open(sealed)
    except VaultKeyMissingError:
        yield _failed(
            "TRUNKLINE_VAULT_KEYS does not open what was sealed last; add the key that the API and "
            "the workers have"
        )


def _newest_sealed(settings: Settings) -> list[bytes]:
    """What was sealed last, if the database can be asked: its own line says why it cannot."""
    with suppress(*DATABASE_ERRORS):
        current, wanted = revisions(settings)
        if current == wanted:
            return read_newest_sealed(settings)
    return []


# What else must answer


def _check_broker(settings: Settings) -> Iterator[Finding]:
    facts = read_broker()
    if facts is not None:
        yield from judge_broker(facts, settings)


def judge_broker(facts: BrokerFacts, settings: Settings) -> Iterator[Finding]:
    """Returns what of a Redis's settings loses messages. Pure."""
    if facts.maxmemory_policy is None:
        yield _warning("does not tell its settings; see to it that maxmemory-policy is noeviction")
        return
    if facts.maxmemory_policy != "noeviction":
        yield _unsafe(
            settings,
            f"maxmemory-policy is {facts.maxmemory_policy}: Redis may throw messages away; set it "
            "to noeviction",
        )
    if not facts.persists:
        yield _warning(
            "keeps nothing over a restart; nothing is lost by that, but every waiting job is sent "
            "again by the sweep: set appendonly to yes"
        )


def _check_livekit(settings: Settings) -> Iterator[Finding]:
    attempt = Attempt(
        import_id="doctor",
        step=StepName.VALIDATE_CREDENTIALS,
        number=1,
        lease=Lease(seconds=settings.call_seconds * 10),
    )
    LiveKit(settings, attempt, ImportTag(import_id=attempt.import_id)).verify()
    yield from ()


#: Name → examination, in the order in which they are told; another one is a function and a line.
_CHECKS: Final[dict[str, Callable[[Settings], Iterator[Finding]]]] = {
    "settings": _check_settings,
    "database": _check_schema,
    "jobs": _check_jobs,
    "clock": _check_clock,
    "vault": _check_vault,
    "broker": _check_broker,
    "sweep": _check_sweep,
    "livekit": _check_livekit,
}
