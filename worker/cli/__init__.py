"""The ``trunkline`` command: numbers, imports and accounts in a terminal, and an operator's chores.

It works on the database that the environment names, as the API does.
"""

from __future__ import annotations

import sys
from typing import Final

import typer

from worker.cli._core import AT_EXIT, Exit, abandon, complain
from worker.cli.batches import batches
from worker.cli.checks import check
from worker.cli.credentials import credentials
from worker.cli.doctor import doctor
from worker.cli.imports import import_numbers, preflight, status
from worker.cli.numbers import change, events, numbers, release
from worker.cli.operations import admin, keys
from worker.db.engine import DATABASE_ERRORS
from worker.domain.errors import TrunklineError

_HELP: Final = """
Imports phone numbers that customers own into a voice-AI platform, as durable jobs.

Works on the database that the environment names, as the API does. Without a terminal, or with
NO_COLOR or TERM=dumb, it prints plain lines; with --json, JSON for other programs.
"""
_EPILOG: Final = """
Exit codes: 0 done; 1 failed, refused, drifted or unreachable; 2 wrong usage or settings;
3 interrupted while it followed a job, or not final yet; 130 interrupted before; 141 nobody read on.

Example: trunkline import +14155550100 -o Acme --provider twilio --credentials account.json

Completion: trunkline --install-completion
"""

app = typer.Typer(
    name="trunkline",
    help=_HELP,
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(preflight)
app.command("import")(import_numbers)
app.command()(batches)
app.command()(status)
app.command()(numbers)
app.command()(check)
app.command()(change)
app.command()(release)
app.command()(events)
app.add_typer(credentials, name="credentials")
app.add_typer(keys, name="keys")
app.add_typer(admin, name="admin")
app.command()(doctor)


def main() -> None:
    """Runs the command; a refusal becomes one line and an exit code."""
    try:
        with AT_EXIT:
            # However it was started: what it says of itself, and completion, go by its name.
            app(prog_name="trunkline")
    except TrunklineError as error:
        complain(str(error))
        sys.exit(Exit.FAILED)
    except DATABASE_ERRORS:
        complain("the database cannot be reached; try `trunkline doctor`")
        sys.exit(Exit.FAILED)
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            abandon()
