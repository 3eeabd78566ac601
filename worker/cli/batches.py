"""Batches: the numbers of a CSV file, brought in together, and what became of earlier ones."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from worker.batches import ERROR_COLUMNS, BatchRequest, read_batch_csv, rows_of_csv
from worker.cli._batches import Followed, batch_json, follow, look, rows_json, tell
from worker.cli._core import (
    AsJson,
    Exit,
    Organization,
    acting,
    every,
    fail,
    say,
    show_json,
    show_table,
    warn,
    when,
)
from worker.domain.errors import InvalidRequest
from worker.domain.job import JobState
from worker.domain.values import ProviderName
from worker.service import Caller, Service

_STDIN: Final = "-"
#: Stands for the provider of rows that name none.
_OTHER: Final = "other"
_BOM: Final = b"\xef\xbb\xbf"


def batches(
    organization: Organization,
    batch_id: Annotated[
        str | None, typer.Argument(metavar="BATCH_ID", help="Show this one: bat_….")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow until it ends.")] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Cancel its imports that have not ended.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Lists the organisation's batches, newest first, or shows one and each failure of it.

    Exit codes: 0 listed, all active, or all ended after --cancel; 1 some failed, or there is no
    such batch; 2 wrong usage; 3 interrupted or not final yet.

    Example: trunkline batches -o Acme

    Example: trunkline batches bat_0190… -o Acme --watch
    """
    if batch_id is None and (watch or cancel):
        fail("say which batch", Exit.USAGE)
    service, caller = acting(organization)
    if batch_id is None:
        _list(service, caller, as_json=as_json)
        return
    batch = service.get_batch(caller, batch_id)
    if cancel:
        batch = service.cancel_batch(caller, batch_id)
    try:
        if watch:
            now = follow(service, caller, batch, quiet=as_json)
        else:
            now = look(service, caller, batch)
    except KeyboardInterrupt:
        _left(f"batch {batch_id} goes on; the same command again follows it")
    if as_json:
        show_json({**batch_json(now.batch), "items": rows_json(now)})
    else:
        tell(now)
    _end(now, cancelled=cancel)


def is_file(source: str) -> bool:
    """Whether an argument names a CSV file rather than a number."""
    if source == _STDIN or source.lower().endswith(".csv"):
        return True
    return not source.startswith("+") and Path(source).exists()


def import_file(
    source: str, organization: str, defaults: Mapping[str, Any], *, wait: bool, as_json: bool
) -> None:
    """Imports the numbers of a CSV file as one batch, and ends the command."""
    body = _read(source)
    try:
        request = read_batch_csv(body, defaults=defaults)
    except InvalidRequest as error:
        fail(f"{error.message} Nothing was imported.", Exit.USAGE)
    service, caller = acting(organization)
    try:
        now = _submitted(service, caller, request, source, wait=wait, as_json=as_json)
    except KeyboardInterrupt:
        _left("the same command again submits the file, or follows it if it was submitted")
    file = None
    if now.is_final and now.failures:
        name = f"{now.id}.csv" if source == _STDIN else source
        file = _write_failures(Path(name), _failures_csv(body, now))
    if as_json:
        show_json({**batch_json(now.batch), "items": rows_json(now), "failed_file": file})
    else:
        tell(now, file=file)
        if file is not None:
            say(
                f"Rows that did not end active: {file}. Put right what was wrong, then import "
                "that file with the same options."
            )
    _end(now)


def _submitted(
    service: Service,
    caller: Caller,
    request: BatchRequest,
    source: str,
    *,
    wait: bool,
    as_json: bool,
) -> Followed:
    """Submits a batch, or finds the one that the same file made; follows it if somebody waits."""
    submitted = service.submit_batch(caller, request, idempotency_key=_key(request, caller))
    now = look(service, caller, submitted.batch)
    if not as_json:
        say(f"{now.id}: {len(now.rows)} numbers of {source}")
    if not submitted.created:
        what = "this is how it ended" if now.is_final else "it goes on"
        # On the other stream: programs may want to know, too.
        warn([f"This file was submitted already, at {when(now.batch.created_at)}; {what}."])
    if not wait:
        return now
    providers = {item.line: _provider(item.values.get("provider")) for item in request.items}
    try:
        return follow(service, caller, now.batch, quiet=as_json, providers=providers)
    except KeyboardInterrupt:
        _left(f"batch {now.id} goes on; the same command again follows it")


def _key(request: BatchRequest, caller: Caller) -> str:
    """The idempotency key: the same for the same file, options and organisation.

    It is stored in the clear, and the file may hold passwords that people have chosen. So it is
    made as slowly as a password's hash: who reads it cannot try guesses by the billion.
    """
    salt = caller.organization_id.bytes
    secret = request.fingerprint.encode()
    return "csv-" + hashlib.scrypt(secret, salt=salt, n=2**14, r=8, p=1, dklen=24).hex()


def _provider(value: object) -> str:
    # Anything else may be a secret in the wrong column.
    return value if isinstance(value, str) and value in set(ProviderName) else _OTHER


def _read(source: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if source == _STDIN else Path(source).read_bytes()
    except OSError as error:
        fail(f"{source} cannot be read: {error.strerror}", Exit.USAGE)


def _failures_csv(body: bytes, now: Followed) -> bytes:
    """Returns the rows that failed as they came, each after what is known of its failure.

    The batch is there, too: the file differs after every attempt, so importing it is a new one.
    What is known comes first: so it stays in its columns where a row has too few or too many cells.
    """
    (_, header), *rows = rows_of_csv(body)
    old = {place for place, name in enumerate(header) if name.strip() in ERROR_COLUMNS}

    def own(cells: Sequence[str]) -> list[str]:
        return [cell for place, cell in enumerate(cells) if place not in old]

    failures = {row.line: row for row in now.failures}
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*ERROR_COLUMNS, *own(header)])
    for line, cells in rows:
        row = failures.get(line)
        if row is not None:
            code = row.error_code or str(row.state)
            writer.writerow([now.id, line, code, row.error_message or "", *own(cells)])
    # A spreadsheet that wrote the mark needs it to read the file.
    return (_BOM if body.startswith(_BOM) else b"") + text.getvalue().encode()


def _write_failures(source: Path, content: bytes) -> str | None:
    """Writes a file beside another one, for its owner alone; returns its name, if it could be.

    Safe to repeat: yes; the same content gives the same file, and no other one is overwritten.
    """
    stem = source.name[: -len(".csv")] if source.name.lower().endswith(".csv") else source.name
    attempt = 1
    try:
        while True:
            path = source.with_name(f"{stem}.failed{'' if attempt == 1 else f'-{attempt}'}.csv")
            with suppress(FileExistsError):
                # From the start for its owner alone: rows may hold credentials.
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                return str(path)
            if _holds(path, content):
                return str(path)
            attempt += 1
    except OSError as error:
        warn([f"{path} cannot be written: {error.strerror}. The failures are only listed."])
        return None


def _holds(path: Path, content: bytes) -> bool:
    same_size = path.is_file() and path.stat().st_size == len(content)
    # Somebody else's may be there that we cannot read.
    return same_size and os.access(path, os.R_OK) and path.read_bytes() == content


def _list(service: Service, caller: Caller, *, as_json: bool) -> None:
    found = every("bat", service.list_batches, caller)
    if as_json:
        show_json([batch_json(one) for one in found])
        return
    rows = []
    for one in found:
        facts = batch_json(one)
        active = one.counts.get(JobState.ACTIVE, 0)
        rows.append(
            (facts["id"], facts["status"], f"{active}/{facts['total']}", when(one.created_at))
        )
    show_table(("batch", "status", "active", "created_at"), rows)


def _left(message: str) -> NoReturn:
    fail(f"nobody waits any more; {message}", Exit.NOT_FINAL)


def _end(now: Followed, *, cancelled: bool = False) -> None:
    if not now.is_final:
        raise typer.Exit(Exit.NOT_FINAL)
    if now.failures and not cancelled:
        raise typer.Exit(Exit.FAILED)
