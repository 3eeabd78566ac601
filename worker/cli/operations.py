"""An operator's chores: encryption keys, the schema, organisations and agents."""

from __future__ import annotations

from typing import Annotated

import typer
from cryptography.fernet import Fernet

from worker.cli._core import (
    AsJson,
    Exit,
    Organization,
    acting,
    fail,
    open_service,
    settings_of_environment,
    show_json,
)
from worker.db.vault import VaultKeyMissingError
from worker.service import MigrationBlockedError, Role, migrate_database

keys = typer.Typer(help="The vault's encryption keys.", no_args_is_help=True)
admin = typer.Typer(help="Schema, organisations, API keys and agents.", no_args_is_help=True)


@keys.command("new")
def new_key() -> None:
    """Prints a new encryption key, to be put first in TRUNKLINE_VAULT_KEYS.

    Exit codes: 0 done.

    Example: trunkline keys new
    """
    typer.echo(Fernet.generate_key().decode())


@keys.command("rotate")
def rotate() -> None:
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
    typer.echo(f"{count} values are sealed with the first key; older keys can be removed.")


@admin.command("migrate")
def migrate() -> None:
    """Brings the database schema up to date, while jobs run; repeatable.

    Exit codes: 0 done, 1 the database is unreachable or somebody holds a table, 2 wrong settings.

    Example: trunkline admin migrate
    """
    try:
        migrate_database(settings_of_environment())
    except MigrationBlockedError as error:
        fail(str(error), Exit.FAILED)
    typer.echo("The schema is up to date.")


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
    """Makes an agent that imports can name; prints its id.

    Exit codes: 0 done, 1 there is no such organisation, 2 wrong usage or settings.

    Example: trunkline admin create-agent "Front desk" -o Acme --dispatch-name front-desk
    """
    service, caller = acting(organization)
    typer.echo(service.create_agent(caller, name=name, dispatch_name=dispatch_name))
