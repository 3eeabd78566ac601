"""Imports: what one would do, begin one, and see how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from worker.cli._core import (
    AsJson,
    CredentialsFile,
    Exit,
    Organization,
    Provider,
    Wait,
    acting,
    complain,
    fail,
    read_credentials,
    say,
    show_json,
    show_table,
    shown,
    warn,
)
from worker.cli._jobs import finish, follow
from worker.cli.batches import import_file, is_file
from worker.domain.values import ProviderName, RoutingMode
from worker.service import ImportRequest, Preflight, explain

Number = Annotated[str, typer.Argument(help="In E.164 format, such as +14155550100.")]
CredentialId = Annotated[
    str | None, typer.Option(help="A stored credential, such as cred_….", show_default=False)
]
Credentials = Annotated[typer.FileText | None, CredentialsFile]
Mode = Annotated[
    RoutingMode | None,
    typer.Option(help="How calls reach LiveKit; webhook, where the provider knows it."),
]
AgentId = Annotated[str | None, typer.Option(help="The agent that answers.")]
FriendlyName = Annotated[str | None, typer.Option(help="A label.")]
Replace = Annotated[
    bool, typer.Option("--replace", help="Replace a foreign routing; it is put back later.")
]


def import_numbers(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NUMBER_OR_FILE",
            help="A number, such as +14155550100, or a CSV file; - reads it from standard input.",
        ),
    ],
    organization: Organization,
    provider: Annotated[
        ProviderName | None, typer.Option(help="Where the number was bought.")
    ] = None,
    credential_id: CredentialId = None,
    credentials: Credentials = None,
    mode: Mode = None,
    agent_id: AgentId = None,
    friendly_name: FriendlyName = None,
    replace: Replace = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Imports one number, or every number of a CSV file, and follows that.

    A file's first line names the fields as POST /v1/batches does: phone_number, provider,
    credential_id, sip.username, …; the options stand in for empty cells and for columns that are
    not there. The same command again follows the same batch. Rows that failed are written to
    FILE.failed.csv, which only you can read and which can be imported in its turn.

    The credentials come from a file or standard input, never from an argument: other users of the
    machine can read arguments.

    Exit codes: 0 all active, 1 failed or refused, 2 wrong usage, 3 interrupted or not final yet.

    Example: trunkline import +14155550100 -o Acme --provider twilio --credentials account.json

    Example: trunkline import numbers.csv -o Acme --provider twilio --credential-id cred_0190…
    """
    values: dict[str, Any] = {
        "provider": provider,
        "credential_id": credential_id,
        "routing_mode": mode,
        "agent_id": agent_id,
        "friendly_name": friendly_name,
    }
    if is_file(source):
        defaults = {name: value for name, value in values.items() if value is not None}
        if credentials is not None:
            defaults["credentials"] = read_credentials(credentials)
        if replace:
            defaults["replace_existing_routing"] = True
        import_file(source, organization, defaults, wait=wait, as_json=as_json)
        return
    if provider is None:
        fail(
            "say where the number was bought with --provider; the name of a CSV file ends in .csv",
            Exit.USAGE,
        )
    values |= {"phone_number": source, "replace_existing_routing": replace}
    request = _request(values, credentials)
    service, caller = acting(organization)
    job = service.submit(caller, request).job
    if wait:
        job = follow(service, caller, job, quiet=as_json)
    finish(job, as_json=as_json)


def preflight(
    phone_number: Number,
    organization: Organization,
    provider: Provider,
    credential_id: CredentialId = None,
    credentials: Credentials = None,
    mode: Mode = None,
    agent_id: AgentId = None,
    friendly_name: FriendlyName = None,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Tells what an import would change, and everything that would refuse it; changes nothing.

    Takes what `trunkline import` takes for one number.

    Exit codes: 0 importable, 1 refused or the provider is unreachable, 2 wrong usage.

    Example: trunkline preflight +14155550100 -o Acme --provider twilio --credentials account.json
    """
    values = {
        "phone_number": phone_number,
        "provider": provider,
        "credential_id": credential_id,
        "routing_mode": mode,
        "agent_id": agent_id,
        "friendly_name": friendly_name,
        "replace_existing_routing": replace,
    }
    request = _request(values, credentials)
    service, caller = acting(organization)
    found = service.preflight(caller, request)
    if as_json:
        show_json(_preflight_json(found))
    else:
        _show_preflight(phone_number, found)
    if found.refusals:
        raise typer.Exit(Exit.FAILED)


def status(
    import_id: Annotated[str, typer.Argument(help="Such as imp_….")],
    organization: Organization,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Shows an import, a release or another job, step by step.

    Exit codes: 0 active or released, 1 failed, 2 wrong usage, 3 not final yet.

    Example: trunkline status imp_0190… -o Acme --watch
    """
    service, caller = acting(organization)
    job = service.get_import(caller, import_id)
    if watch:
        job = follow(service, caller, job, quiet=as_json)
    finish(job, as_json=as_json)


def _request(values: Mapping[str, Any], credentials: typer.FileText | None) -> ImportRequest:
    secret = None if credentials is None else read_credentials(credentials)
    try:
        return ImportRequest(**values, credentials=secret)
    except ValidationError as error:
        fail(explain(error), Exit.USAGE)


def _show_preflight(phone_number: str, found: Preflight) -> None:
    for change in found.changes:
        say(f"{change.action} {change.where} {change.object} ({change.step})", style="bold")
        begins = change.action == "update"
        columns = ("  field", "from", "to") if begins else ("  field", "to")
        rows = [
            (f"  {one.field}", *([shown(one.before)] if begins else []), shown(one.after))
            for one in change.fields
        ]
        if rows:
            show_table(columns, rows)
        say("")
    warn(found.warnings)
    for refusal in found.refusals:
        where = "" if refusal.step is None else f" at {refusal.step}"
        complain(f"{refusal.error.code}{where}: {refusal.error.message}")
    verdict = "would be refused" if found.refusals else "can be imported"
    say(
        f"{phone_number} {verdict}; nothing was changed", style="red" if found.refusals else "green"
    )


def _preflight_json(found: Preflight) -> dict[str, Any]:
    return {
        "importable": not found.refusals,
        "refusals": [
            {"code": one.error.code, "message": one.error.message, "step": one.step}
            for one in found.refusals
        ],
        "warnings": found.warnings,
        "changes": [
            {
                "where": change.where,
                "object": change.object,
                "action": change.action,
                "step": change.step,
                "fields": [
                    {"field": one.field, "from": one.before, "to": one.after}
                    for one in change.fields
                ],
            }
            for change in found.changes
        ],
    }
