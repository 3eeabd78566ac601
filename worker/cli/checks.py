"""Why a number does not ring, and putting it right."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli._core import (
    NONE,
    AsJson,
    Exit,
    NumberOrId,
    Organization,
    acting,
    complain,
    number_of,
    say,
    show_json,
    show_table,
    shown,
    warn,
)
from worker.cli._jobs import follow, job_json, succeeded, tell
from worker.diagnosis import Verdict
from worker.domain.values import format_id
from worker.service import Diagnosis, JobRecord


def check(
    number: NumberOrId,
    organization: Organization,
    repair: Annotated[
        bool, typer.Option("--repair", help="Put right what can be, then look again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compares everything outside with what was set, and says why calls would not arrive.

    Exit codes: 0 all is as it was set, 1 it is not or cannot be looked at, 2 wrong usage.

    Example: trunkline check +14155550100 -o Acme --repair
    """
    service, caller = acting(organization)
    found = number_of(service, caller, number)
    number_id = format_id("num", found.id)
    diagnosis = service.check_number(caller, number_id)
    before: Diagnosis | None = None
    job: JobRecord | None = None
    if not as_json:
        _show(found.e164, diagnosis)
    if repair and diagnosis.repairable:
        job = follow(service, caller, service.repair(caller, number_id), quiet=as_json)
        if not as_json:
            tell(job)
        if succeeded(job):
            # A repair cannot do everything: only another look tells whether calls arrive.
            before, diagnosis = diagnosis, service.check_number(caller, number_id)
            if not as_json:
                _show(found.e164, diagnosis)
    if as_json:
        show_json(
            {
                "phone_number": found.e164,
                "phone_number_id": number_id,
                **diagnosis.to_json(),
                "repair": None if job is None else job_json(job),
                "before_repair": None if before is None else before.to_json(),
            }
        )
    elif diagnosis.verdict is not Verdict.OK:
        _advise(diagnosis, repaired=job is not None)
    if diagnosis.verdict is not Verdict.OK:
        raise typer.Exit(Exit.FAILED)


def _show(e164: str, diagnosis: Diagnosis) -> None:
    is_ok = diagnosis.verdict is Verdict.OK
    say(f"{e164} {diagnosis.verdict}", style="green" if is_ok else "red")
    say(diagnosis.summary)
    if diagnosis.findings:
        say("")
        show_table(
            ("object", "field", "expected", "found"),
            [
                (
                    f"{one.where} {one.object}",
                    one.field or NONE,
                    shown(one.expected),
                    one.code if one.found is None else shown(one.found),
                )
                for one in diagnosis.findings
            ],
        )
        say("")
    warn(diagnosis.warnings)


def _advise(diagnosis: Diagnosis, *, repaired: bool) -> None:
    for one in diagnosis.findings:
        if not one.repairable:
            complain(f"no repair can put this right: {one.sentence}")
    if diagnosis.repairable and not repaired:
        say("Run this again with --repair to put it right.")
