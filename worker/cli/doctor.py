"""What is reachable, what is not, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import typer
from rich.text import Text

from worker.celery_app import ping_broker
from worker.cli._core import OUT, AsJson, Exit, settings_of_environment, show_json
from worker.db.engine import DATABASE_ERRORS, make_engine, revisions, schema_is_newer
from worker.db.repository import JobRepository
from worker.db.vault import Vault
from worker.domain.errors import TrunklineError
from worker.domain.job import Attempt, Lease, StepName
from worker.domain.values import ImportTag
from worker.livekit import LiveKit
from worker.settings import Settings


def doctor(as_json: AsJson = False) -> None:
    """Tells what is reachable and what is not, and what to do about it.

    Exit codes: 0 everything is, 1 something is not, 2 wrong settings.

    Example: trunkline doctor
    """
    settings = settings_of_environment()
    found = {name: _examine(check, settings) for name, check in _CHECKS.items()}
    if as_json:
        show_json(found)
    else:
        for name, fault in found.items():
            verdict = ("ok", "green") if fault is None else (fault, "red")
            OUT.print(Text.assemble(f"{name:<10} ", verdict), soft_wrap=True)
    if any(found.values()):
        raise typer.Exit(Exit.FAILED)


def _examine(check: Callable[[Settings], str | None], settings: Settings) -> str | None:
    try:
        return check(settings)
    except DATABASE_ERRORS:
        return "unreachable; check TRUNKLINE_DATABASE_URL and that Postgres runs"
    except OSError:
        return "unreachable; check TRUNKLINE_BROKER_URL and that the broker runs"
    except TrunklineError as error:
        return str(error)


def _check_schema(settings: Settings) -> str | None:
    current, wanted = revisions(settings)
    # This release works on the schema of the next one, while that comes or goes.
    if current == wanted or schema_is_newer(settings):
        return None
    return f"the schema is at {current}, this release wants {wanted}; run `trunkline admin migrate`"


def _check_jobs(settings: Settings) -> str | None:
    if _check_schema(settings) is not None:
        return None  # first things first
    engine = make_engine(settings)
    jobs = JobRepository(engine, resend_after_seconds=settings.resend_after_seconds)
    found = jobs.count_of_newer_release()
    engine.dispose()
    if not found:
        return None
    return f"{found} were begun by a newer release; run a worker of that until they have ended"


def _check_vault(settings: Settings) -> str | None:
    try:
        Vault(settings.vault_keys)
    except ValueError:
        return "TRUNKLINE_VAULT_KEYS holds something that is no key; see `trunkline keys new`"
    return None


def _check_broker(_settings: Settings) -> str | None:
    ping_broker()
    return None


def _check_livekit(settings: Settings) -> str | None:
    attempt = Attempt(
        import_id="doctor",
        step=StepName.VALIDATE_CREDENTIALS,
        number=1,
        lease=Lease(seconds=settings.call_seconds * 10),
    )
    LiveKit(settings, attempt, ImportTag(import_id=attempt.import_id)).verify()
    return None


_CHECKS: Final[dict[str, Callable[[Settings], str | None]]] = {
    "database": _check_schema,
    "jobs": _check_jobs,
    "vault": _check_vault,
    "broker": _check_broker,
    "livekit": _check_livekit,
}
