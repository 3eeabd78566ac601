"""An operator's chores: encryption keys, the schema, organisations and agents."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Final

import typer
from cryptography.fernet import Fernet

from worker.cli._core import (
    ERR,
    AsJson,
    Exit,
    Organization,
    acting,
    fail,
    open_service,
    say,
    settings_of_environment,
    show_json,
)
from worker.db.engine import revisions
from worker.db.vault import VaultKeyMissingError
from worker.domain.values import format_id
from worker.service import MigrationBlockedError, Role, migrate_database

keys = typer.Typer(help="The vault's encryption keys.", no_args_is_help=True)
admin = typer.Typer(help="Schema, organisations, API keys and agents.", no_args_is_help=True)


@keys.command("new")
def new_key(as_json: AsJson = False) -> None:
    """Prints a new encryption key, to be put first in TRUNKLINE_VAULT_KEYS.

    Exit codes: 0 done.

    Example: trunkline keys new
    """
    key = Fernet.generate_key().decode()
    if as_json:
        show_json({"key": key})
    else:
        say(key)


@keys.command("rotate")
def rotate(as_json: AsJson = False) -> None:
    """Seals every stored secret with the first key of TRUNKLINE_VAULT_KEYS; repeatable.

    Afterwards the older keys may be removed from the setting.

    Exit codes: 0 done, 1 a key is missing, 2 wrong settings.

    Example: trunkline keys rotate
    """
    service = open_service()
    try:
        count = service.rotate_keys()
    except VaultKeyMissingError as error:
        fail(f"{error}; values sealed before it are done, run this again", Exit.FAILED)
    if as_json:
        show_json({"sealed": count})
    else:
        say(f"{count} values are sealed with the first key; older keys can be removed.")


@admin.command("migrate")
def migrate(as_json: AsJson = False) -> None:
    """Brings the database schema up to date, while jobs run; repeatable.

    Exit codes: 0 done, 1 the database is unreachable or somebody holds a table, 2 wrong settings.

    Example: trunkline admin migrate
    """
    settings = settings_of_environment()
    try:
        migrate_database(settings)
    except MigrationBlockedError as error:
        fail(str(error), Exit.FAILED)
    if as_json:
        show_json({"revision": revisions(settings)[0]})
    else:
        say("The schema is up to date.")


@admin.command("bootstrap")
def bootstrap(
    organization: Organization,
    role: Annotated[Role, typer.Option(help="What the key may do.")] = Role.ADMIN,
    as_json: AsJson = False,
) -> None:
    """Makes an organisation, if there is none of that name, and an API key, shown this once.

    Exit codes: 0 done, 1 the database is unreachable, 2 wrong usage or settings.

    Example: trunkline admin bootstrap -o Acme
    """
    service = open_service()
    organization_id, key = service.bootstrap(organization, role=role)
    if as_json:
        show_json({"organization_id": organization_id, "api_key": key})
    else:
        say(f"organisation  {organization_id}")
        say(f"API key       {key}")
        say("Keep the key: it is not stored.")


@admin.command("create-agent")
def create_agent(
    name: Annotated[str, typer.Argument(help="What people call it.")],
    organization: Organization,
    dispatch_name: Annotated[
        str, typer.Option(help="The agent_name under which its workers register at LiveKit.")
    ],
    as_json: AsJson = False,
) -> None:
    """Makes an agent that imports can name; prints its id.

    Exit codes: 0 done, 1 there is no such organisation, 2 wrong usage or settings.

    Example: trunkline admin create-agent "Front desk" -o Acme --dispatch-name front-desk
    """
    service, caller = acting(organization)
    agent_id = service.create_agent(caller, name=name, dispatch_name=dispatch_name)
    if as_json:
        show_json({"id": agent_id})
    else:
        say(agent_id)


#: How often it is looked whether numbers and jobs have ended.
_LOOK_SECONDS: Final = 1.0


@admin.command("erase-organization")
def erase_organization(
    organization: Organization,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Gives back every number of an organisation, then deletes its data for good; repeatable.

    Its keys are revoked first. Numbers, jobs, events, credentials, agents, users and batches go;
    the audit log stays, without the organisation's name. What is stuck must be ended before.

    Exit codes: 0 done, 1 something is stuck or the database is unreachable, 2 wrong usage or
    settings, 3 interrupted; the same command goes on.

    Example: trunkline admin erase-organization -o Acme
    """
    if not yes and not sys.stdin.isatty():
        fail("there is nobody to ask; give --yes", Exit.USAGE)
    service, caller = acting(organization)
    if not yes:
        asked = typer.prompt(
            f"This gives back all numbers of {organization} and deletes its data for good. "
            "Type its name to go on",
            default="",
            show_default=False,
            err=True,
        )
        if asked != organization:
            fail("That is not its name. Nothing was done.", Exit.USAGE)
    told = None
    try:
        while left := service.wind_up(caller):
            if left.stuck and len(left.stuck) == len(left.jobs) and not left.numbers:
                stuck = ", ".join(format_id("imp", job_id) for job_id in left.stuck)
                fail(f"Nothing was deleted: these jobs are stuck: {stuck}", Exit.FAILED)
            waits = f"waiting for {len(left.jobs)} jobs, {len(left.numbers)} numbers"
            if waits != told:
                ERR.print(waits)
            told = waits
            time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        fail("Interrupted. The same command goes on.", Exit.NOT_FINAL)
    gone = service.erase(caller)
    if as_json:
        show_json({"erased": gone})
    else:
        say(f"{organization} is gone: " + ", ".join(f"{n} {name}" for name, n in gone.items()))
