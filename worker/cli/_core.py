"""What every command has: options, exit codes, how it speaks, and the way to the service."""

from __future__ import annotations

import contextlib
import json
import sys
from enum import IntEnum
from typing import Annotated, Any, Final, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from worker import logs
from worker.service import Caller, Service, explain
from worker.settings import Settings, load


class Exit(IntEnum):
    """Exit codes of the command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FINAL = 3


#: Closes what a command opened.
AT_EXIT: Final = contextlib.ExitStack()
OUT: Final = Console()
ERR: Final = Console(stderr=True)

Organization = Annotated[
    str, typer.Option("--organization", "-o", help="Name of the organisation to act for.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]


def complain(message: str) -> None:
    """Prints what went wrong, for a person."""
    # A Text of its own: messages may hold brackets. Unwrapped: they may be piped into something.
    ERR.print(Text.assemble(("error ", "bold red"), message), soft_wrap=True)


def fail(message: str, code: Exit) -> NoReturn:
    """Prints what went wrong and ends the command."""
    complain(message)
    raise typer.Exit(code)


def settings_of_environment() -> Settings:
    """Returns the settings; without them the command ends."""
    try:
        settings = load()
    except ValidationError as error:
        fail(f"settings: {explain(error)}\nSee deploy/.env.example.", Exit.USAGE)
    logs.configure(level="WARNING", log_format="console")
    return settings


def open_service() -> Service:
    """Returns a service, closed when the command ends."""
    service = Service.from_settings(settings_of_environment())
    AT_EXIT.callback(service.close)
    return service


def acting(organization: str) -> tuple[Service, Caller]:
    """Returns a service, and the caller who acts for the organisation."""
    service = open_service()
    return service, service.operator(organization)


def show_json(value: Any) -> None:  # noqa: ANN401 -- anything that JSON holds
    """Prints JSON, for other programs."""
    sys.stdout.write(json.dumps(value, default=str, indent=2) + "\n")
