"""The ``trunkline`` command: imports and their state in a terminal, and an operator's chores.

It works on the database that the environment names, as the API does. Exit codes: 0 done, 1 the
import failed or something is unreachable, 2 wrong usage or settings, 3 not final yet.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Annotated, Any, Final, NoReturn

import typer
from cryptography.fernet import Fernet
from pydantic import ValidationError
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from worker import logs
from worker.celery_app import ping_broker
from worker.db.engine import DATABASE_ERRORS, revisions
from worker.db.records import JobRecord
from worker.db.vault import Vault, VaultKeyMissingError
from worker.domain.errors import TrunklineError
from worker.domain.job import Attempt, JobState, Lease, StepName, StepState
from worker.domain.values import ImportTag, ProviderName, RoutingMode, format_id
from worker.livekit import LiveKit
from worker.service import Caller, ImportRequest, Role, Service, explain, migrate_database
from worker.settings import Settings, load


class Exit(IntEnum):
    """Exit codes of the command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FINAL = 3


_POLL_SECONDS: Final = 0.2
#: Closes what a command opened.
_at_exit: Final = contextlib.ExitStack()
_out = Console()
_err = Console(stderr=True)

app = typer.Typer(
    name="trunkline",
    help="Imports phone numbers that customers own into a voice-AI platform, as durable jobs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
keys = typer.Typer(help="The vault's encryption keys.", no_args_is_help=True)
admin = typer.Typer(help="Schema, organisations, API keys and agents.", no_args_is_help=True)
app.add_typer(keys, name="keys")
app.add_typer(admin, name="admin")

Organization = Annotated[
    str, typer.Option("--organization", "-o", help="Name of the organisation to act for.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]


def _complain(message: str) -> None:
    # A Text of its own: messages may hold brackets. Unwrapped: they may be piped into something.
    _err.print(Text.assemble(("error ", "bold red"), message), soft_wrap=True)


def _fail(message: str, code: Exit) -> NoReturn:
    _complain(message)
    raise typer.Exit(code)


def _settings() -> Settings:
    try:
        settings = load()
    except ValidationError as error:
        _fail(f"settings: {explain(error)}\nSee deploy/.env.example.", Exit.USAGE)
    logs.configure(level="WARNING", log_format="console")
    return settings


def _open() -> Service:
    service = Service.from_settings(_settings())
    _at_exit.callback(service.close)
    return service


def _service(organization: str) -> tuple[Service, Caller]:
    service = _open()
    return service, service.operator(organization)


def _show_json(value: Any) -> None:  # noqa: ANN401 -- anything that JSON holds
    sys.stdout.write(json.dumps(value, default=str, indent=2) + "\n")


@app.command("import")
def import_number(
    phone_number: Annotated[str, typer.Argument(help="In E.164 format, such as +14155550100.")],
    organization: Organization,
    provider: Annotated[ProviderName, typer.Option(help="Where the number was bought.")],
    credential_id: Annotated[
        str | None, typer.Option(help="A stored credential, such as cred_….")
    ] = None,
    credentials: Annotated[
        typer.FileText | None,
        typer.Option(help="A JSON file with the provider's credentials; - reads standard input."),
    ] = None,
    mode: Annotated[RoutingMode, typer.Option(help="How calls reach LiveKit.")] = (
        RoutingMode.WEBHOOK
    ),
    agent_id: Annotated[str | None, typer.Option(help="The agent that answers.")] = None,
    friendly_name: Annotated[str | None, typer.Option(help="A label.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a foreign routing; it is put back later.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Follow the import until it ends.")] = True,
    as_json: AsJson = False,
) -> None:
    """Imports one number and follows it.

    The credentials come from a file or standard input, never from an argument: other users of the
    machine can read arguments.

    Example: trunkline import +14155550100 -o Acme --provider twilio --credentials account.json
    """
    values = None if credentials is None else _read_json(credentials)
    service, caller = _service(organization)
    try:
        request = ImportRequest(
            phone_number=phone_number,
            provider=provider,
            credential_id=credential_id,
            credentials=values,
            routing_mode=mode,
            agent_id=agent_id,
            friendly_name=friendly_name,
            replace_existing_routing=replace,
        )
    except ValidationError as error:
        _fail(explain(error), Exit.USAGE)
    job = service.submit(caller, request).job
    if wait:
        job = _follow(service, caller, job, quiet=as_json)
    _finish(job, as_json=as_json)


def _read_json(file: typer.FileText) -> dict[str, Any]:
    try:
        values = json.load(file)
    except json.JSONDecodeError:
        _fail("the credentials file is not JSON", Exit.USAGE)
    if not isinstance(values, dict):
        _fail("the credentials file must hold one JSON object", Exit.USAGE)
    return values


@app.command()
def status(
    import_id: Annotated[str, typer.Argument(help="Such as imp_….")],
    organization: Organization,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Shows an import, step by step.

    Example: trunkline status imp_0190… -o Acme --watch
    """
    service, caller = _service(organization)
    job = service.get_import(caller, import_id)
    if watch:
        job = _follow(service, caller, job, quiet=as_json)
    _finish(job, as_json=as_json)


def _follow(service: Service, caller: Caller, job: JobRecord, *, quiet: bool) -> JobRecord:
    """Shows the steps until the job is final: redrawn in a terminal, a line a change in a pipe."""
    import_id = format_id("imp", job.id)
    if quiet:
        return _poll(service, caller, import_id, lambda _: None)
    if not _out.is_terminal:
        seen: dict[StepName, str] = {}

        def print_changes(job: JobRecord) -> None:
            for step, state in _states(job).items():
                if seen.get(step) != state and state != StepState.WAITING:
                    _out.print(f"{step}: {state}", highlight=False)
                    seen[step] = state

        return _poll(service, caller, import_id, print_changes)
    with Live(_table(job), console=_out, refresh_per_second=10) as live:
        return _poll(service, caller, import_id, lambda job: live.update(_table(job)))


def _poll(
    service: Service, caller: Caller, import_id: str, show: Callable[[JobRecord], None]
) -> JobRecord:
    while True:
        job = service.get_import(caller, import_id)
        show(job)
        if job.is_final:
            return job
        time.sleep(_POLL_SECONDS)


def _states(job: JobRecord) -> dict[StepName, str]:
    return {
        step: (
            f"{job.steps[step].state}"
            + (f" (attempt {job.steps[step].attempts})" if job.steps[step].attempts > 1 else "")
            if step in job.steps
            else str(StepState.WAITING)
        )
        for step in StepName
    }


def _table(job: JobRecord) -> Table:
    table = Table(title=f"{job.e164} {job.state}", title_justify="left", box=None)
    table.add_column("step")
    table.add_column("state")
    for step, state in _states(job).items():
        table.add_row(step, state)
    return table


def _finish(job: JobRecord, *, as_json: bool) -> None:
    import_id = format_id("imp", job.id)
    if as_json:
        _show_json(
            {
                "id": import_id,
                "status": job.state,
                "phone_number": job.e164,
                "steps": _states(job),
                "error": job.error_code,
                "message": job.error_message,
                "left_at": job.undo_error_step,
            }
        )
    else:
        _out.print(f"{import_id} {job.state}", highlight=False, soft_wrap=True)
        if job.error_code is not None:
            _complain(f"{job.error_code} at {job.error_step}: {job.error_message}")
        if job.state is JobState.STUCK:
            _complain(
                f"undo gave up at {job.undo_error_step}: {job.undo_error_message} See the runbook, "
                "'Stuck job'."
            )
    if not job.is_final:
        raise typer.Exit(Exit.NOT_FINAL)
    if job.state is not JobState.ACTIVE:
        raise typer.Exit(Exit.FAILED)


@keys.command("new")
def new_key() -> None:
    """Prints a new encryption key, to be put first in TRUNKLINE_VAULT_KEYS."""
    typer.echo(Fernet.generate_key().decode())


@keys.command("rotate")
def rotate() -> None:
    """Seals every stored secret with the first key of TRUNKLINE_VAULT_KEYS; repeatable.

    Afterwards the older keys may be removed from the setting.
    """
    service = _open()
    try:
        count = service.rotate_keys()
    except VaultKeyMissingError as error:
        _fail(f"{error}; values sealed before it are done, run this again", Exit.FAILED)
    typer.echo(f"{count} values are sealed with the first key; older keys can be removed.")


@admin.command("migrate")
def migrate() -> None:
    """Brings the database schema up to date; repeatable."""
    migrate_database(_settings())
    typer.echo("The schema is up to date.")


@admin.command("bootstrap")
def bootstrap(
    organization: Organization,
    role: Annotated[Role, typer.Option(help="What the key may do.")] = Role.ADMIN,
    as_json: AsJson = False,
) -> None:
    """Makes an organisation, if there is none of that name, and an API key, shown this once."""
    service = _open()
    organization_id, key = service.bootstrap(organization, role=role)
    if as_json:
        _show_json({"organization_id": organization_id, "api_key": key})
    else:
        typer.echo(
            f"organisation  {organization_id}\nAPI key       {key}\nKeep the key: it is not stored."
        )


@admin.command("create-agent")
def create_agent(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    organization: Organization,
    dispatch_name: Annotated[
        str, typer.Option(help="The agent_name under which its workers register at LiveKit.")
    ],
) -> None:
    """Makes an agent that imports can name; prints its id."""
    service, caller = _service(organization)
    typer.echo(service.create_agent(caller, name=name, dispatch_name=dispatch_name))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Tells what is reachable and what is not, and what to do about it."""
    settings = _settings()
    found = {name: _examine(check, settings) for name, check in _CHECKS.items()}
    if as_json:
        _show_json(found)
    else:
        for name, fault in found.items():
            verdict = ("ok", "green") if fault is None else (fault, "red")
            _out.print(Text.assemble(f"{name:<10} ", verdict), soft_wrap=True)
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
    if current == wanted:
        return None
    return f"the schema is at {current}, this release wants {wanted}; run `trunkline admin migrate`"


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
    "vault": _check_vault,
    "broker": _check_broker,
    "livekit": _check_livekit,
}


def main() -> None:
    """Runs the command; a refusal becomes one line and an exit code."""
    try:
        with _at_exit:
            app()
    except TrunklineError as error:
        _complain(str(error))
        sys.exit(Exit.FAILED)
    except DATABASE_ERRORS:
        _complain("the database cannot be reached; try `trunkline doctor`")
        sys.exit(Exit.FAILED)


if __name__ == "__main__":
    main()
