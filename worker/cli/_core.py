"""What every command has: options, exit codes, how it speaks, and the way to the service."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Annotated, Any, Final, NoReturn, Protocol, TypeVar
from uuid import UUID

import typer
from pydantic import ValidationError
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker import logs
from worker.domain.values import E164, ProviderName, format_id
from worker.logs import printable
from worker.service import Caller, NumberRecord, Service, explain
from worker.settings import Settings, load


class _HasId(Protocol):
    """What a list's pages are cut by."""

    @property
    def id(self) -> UUID:
        """Newer ones are greater."""


_Record = TypeVar("_Record", bound=_HasId)


class Exit(IntEnum):
    """Exit codes of the command."""

    #: What was asked for is so.
    DONE = 0
    #: It failed, was refused, has drifted, or something is unreachable.
    FAILED = 1
    #: Wrong usage or settings; nothing was tried.
    USAGE = 2
    #: A job goes on, and nobody waited for its end.
    NOT_FINAL = 3
    #: Whoever read the output went away, as `head` does; as shells tell of any other program.
    UNREAD = 141


def abandon() -> NoReturn:
    """Ends the command without a word: nobody reads on."""
    # What is buffered would be written at the end, and fail again.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    raise SystemExit(Exit.UNREAD)


class _Output(Console):
    """Where everything is printed for people."""

    @property
    def redraws(self) -> bool:
        """Whether what was printed can be drawn over; else changes are told line by line."""
        return self.is_terminal and not self.is_dumb_terminal

    def on_broken_pipe(self) -> None:
        """Nobody reads on."""
        abandon()


#: Closes what a command opened.
AT_EXIT: Final = contextlib.ExitStack()
OUT: Final = _Output()
ERR: Final = _Output(stderr=True)
#: Stands where there is nothing to tell.
NONE: Final = "-"

NumberOrId = Annotated[
    str,
    typer.Argument(
        metavar="NUMBER_OR_ID", help="A number of the organisation, such as +14155550100 or num_…."
    ),
]
Wait = Annotated[bool, typer.Option(help="Follow the job until it ends.")]
Organization = Annotated[
    str, typer.Option("--organization", "-o", help="Name of the organisation to act for.")
]
Provider = Annotated[ProviderName, typer.Option(help="Where the number was bought.")]
CredentialsFile = typer.Option(
    "--credentials", help="A JSON file with the provider's credentials; - reads standard input."
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]


def complain(message: str) -> None:
    """Prints what went wrong, for a person."""
    # A Text of its own: messages may hold brackets. Unwrapped: they may be piped into something.
    text = printable(message, keep="\n")
    ERR.print(Text.assemble(("error ", "bold red"), text), soft_wrap=True)


def say(text: str, *, style: str = "") -> None:
    """Prints one line."""
    OUT.print(Text(printable(text), style=style), soft_wrap=True)


def warn(warnings: Sequence[str]) -> None:
    """Prints what somebody should know although nothing is refused."""
    for text in warnings:
        ERR.print(Text.assemble(("warning ", "bold yellow"), printable(text)), soft_wrap=True)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table: folded to a terminal's width; in a pipe a line a row, as wide as it is."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if OUT.is_terminal:
        table = Table(box=None, pad_edge=False)
        for name in columns:
            # The first one is what people copy.
            table.add_column(name, overflow="fold", no_wrap=name == columns[0])
        for row in cells:
            table.add_row(*map(Text, row))
        OUT.print(table)
        return
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    for row in ([*columns], *cells):
        padded = (set_cell_size(cell, width) for cell, width in zip(row, widths, strict=True))
        OUT.print(Text("  ".join(padded).rstrip()), soft_wrap=True)


def every(
    prefix: str, page: Callable[..., list[_Record]], *arguments: Caller, size: int = 200
) -> list[_Record]:
    """Returns all records of a list that comes in pages, the newest first."""
    found: list[_Record] = []
    while True:
        cursor = format_id(prefix, found[-1].id) if found else None
        some = page(*arguments, limit=size, cursor=cursor)
        found += some
        if len(some) < size:
            return found


def id_or_none(prefix: str, value: UUID | None) -> str | None:
    """Returns the id that callers see, if there is one."""
    return None if value is None else format_id(prefix, value)


def shown(value: str | None) -> str:
    """Returns a setting as people read it: a dash where there is none."""
    return NONE if value is None else value or "empty"


def when(moment: datetime | None) -> str:
    """Returns a time as people read it, in UTC; a dash for never."""
    return NONE if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def number_of(service: Service, caller: Caller, text: str) -> NumberRecord:
    """Returns the organisation's number that is meant, by its id or by what people dial.

    Raises:
        NotFound: there is none that is active, or on its way out.
        InvalidPhoneNumber: it is neither an id nor a number.
    """
    if text.startswith("num_"):
        return service.get_number(caller, text)
    return service.find_number_by_e164(caller, E164.parse(text))


def read_credentials(file: typer.FileText) -> dict[str, Any]:
    """Returns what a credentials file holds; anything but a JSON object ends the command."""
    try:
        values = json.load(file)
    # Also bytes that are no text.
    except ValueError:
        fail("the credentials file is not JSON", Exit.USAGE)
    if not isinstance(values, dict):
        fail("the credentials file must hold one JSON object", Exit.USAGE)
    return values


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
    logs.adopt_last_words()
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
    try:
        sys.stdout.write(json.dumps(value, default=str, indent=2) + "\n")
    except BrokenPipeError:
        abandon()
