"""The command run against a whole stack: in a pipe, and in a terminal of some width."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import logging
import os
import pty
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from tests.rig import Customer, Rig
from worker.cli import main
from worker.settings import load

_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Done:
    """How one run of the command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def piped(rig: Rig, *arguments: str, stdin: str = "", organization: str = "Acme") -> Done:
    """Runs it in this process: a new one would import for a second each time."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        for name, value in rig.stack.environment.items():
            patch.setenv(name, value)
        patch.setattr("sys.argv", ["trunkline", *arguments, "-o", organization])
        patch.setattr("sys.stdin", io.StringIO(stdin))
        load.cache_clear()
        try:
            main()
            code = 0
        except SystemExit as exit_:
            code = int(exit_.code or 0)
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    load.cache_clear()
    return Done(code=code, out=out.getvalue(), err=err.getvalue())


def in_terminal(
    rig: Rig, *arguments: str, columns: int = 80, answer: str = "", term: str = "xterm"
) -> Done:
    """Runs it in a pseudo-terminal without colour; what it prints comes in one stream."""
    environment = {**rig.stack.environment, "TERM": term, "NO_COLOR": "1"}
    # They would be believed rather than the terminal; some test runners set them.
    for name in ("COLUMNS", "LINES"):
        environment.pop(name, None)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(  # noqa: S603 -- our own module and arguments
        [sys.executable, "-m", "worker.cli", *arguments, "-o", "Acme"],
        env=environment,
        cwd=rig.stack.run_dir,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, answer.encode())
    seen = bytearray()
    while True:
        try:
            some = os.read(ours, 65536)
        except OSError:  # Linux: nobody is at the other end any more
            break
        if not some:
            break
        seen += some
    os.close(ours)
    return Done(code=process.wait(_SECONDS), out=seen.decode().replace("\r\n", "\n"), err="")


def brought_in(rig: Rig, customer: Customer) -> str:
    """Imports a customer's number; returns the number's id."""
    job = rig.submit(customer)
    done = rig.wait([job["id"]])[job["id"]]
    assert done["status"] == "active", done["error"]
    number: str = done["phone_number_id"]
    return number
