"""Imports: begin one, and see how far it is."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from worker.cli._core import AsJson, Exit, Organization, acting, fail
from worker.cli._jobs import finish, follow
from worker.domain.values import ProviderName, RoutingMode
from worker.service import ImportRequest, explain


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
    service, caller = acting(organization)
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
        fail(explain(error), Exit.USAGE)
    job = service.submit(caller, request).job
    if wait:
        job = follow(service, caller, job, quiet=as_json)
    finish(job, as_json=as_json)


def _read_json(file: typer.FileText) -> dict[str, Any]:
    try:
        values = json.load(file)
    except json.JSONDecodeError:
        fail("the credentials file is not JSON", Exit.USAGE)
    if not isinstance(values, dict):
        fail("the credentials file must hold one JSON object", Exit.USAGE)
    return values


def status(
    import_id: Annotated[str, typer.Argument(help="Such as imp_….")],
    organization: Organization,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Shows an import, step by step.

    Example: trunkline status imp_0190… -o Acme --watch
    """
    service, caller = acting(organization)
    job = service.get_import(caller, import_id)
    if watch:
        job = follow(service, caller, job, quiet=as_json)
    finish(job, as_json=as_json)
