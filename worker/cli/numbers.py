"""Imported numbers: list, show, change, give back, and what came in for them."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError

from worker.cli._core import (
    NONE,
    AsJson,
    Exit,
    NumberOrId,
    Organization,
    Wait,
    acting,
    every,
    fail,
    id_or_none,
    number_of,
    say,
    show_json,
    show_table,
    when,
)
from worker.cli._jobs import finish, follow
from worker.domain.calls import EventKind
from worker.domain.values import format_id
from worker.logs import printable
from worker.service import JobRecord, NumberChange, NumberRecord, StoredEvent, explain

#: Columns of an event; what else it tells stands in the last one.
_EVENT_COLUMNS: Final = ("status", "from", "to")


def numbers(
    organization: Organization,
    number: Annotated[
        str | None,
        typer.Argument(
            metavar="NUMBER_OR_ID", help="Show all of one number instead: +14155550100 or num_…."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lists the organisation's numbers, newest first, or shows all of one.

    Exit codes: 0 done, 1 there is no such number, 2 wrong usage.

    Example: trunkline numbers -o Acme

    Example: trunkline numbers +14155550100 -o Acme
    """
    service, caller = acting(organization)
    if number is not None:
        facts = _facts(number_of(service, caller, number))
        if as_json:
            show_json(facts)
        else:
            show_table(("field", "value"), [(name, _text(one)) for name, one in facts.items()])
        return
    found = every("num", service.list_numbers, caller)
    if as_json:
        show_json([_facts(one) for one in found])
        return
    show_table(
        ("number", "status", "agent", "verdict", "checked_at"),
        [
            (
                one.e164,
                one.status,
                id_or_none("agt", one.agent_id) or NONE,
                _verdict(one) or NONE,
                when(one.checked_at),
            )
            for one in found
        ],
    )


def change(
    number: NumberOrId,
    organization: Organization,
    agent_id: Annotated[str | None, typer.Option(help="The agent that answers.")] = None,
    fallback_agent_id: Annotated[
        str | None, typer.Option(help="The agent that is tried when the first does not answer.")
    ] = None,
    voicemail_message: Annotated[
        str | None, typer.Option(help="What is said before a caller is recorded.")
    ] = None,
    friendly_name: Annotated[str | None, typer.Option(help="A label.")] = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Gives a number's calls to another agent, or changes how they reach it.

    What is left out stays; an empty value, such as --friendly-name "", takes away.

    Exit codes: 0 done, 1 failed or refused, 2 wrong usage, 3 not final yet.

    Example: trunkline change +14155550100 -o Acme --agent-id agt_0190…
    """
    given = _given(agent_id=agent_id, friendly_name=friendly_name)
    inbound = _given(fallback_agent_id=fallback_agent_id, voicemail_message=voicemail_message)
    if inbound:
        given["inbound"] = inbound
    if not given:
        fail("say what is to change; see --help", Exit.USAGE)
    try:
        wanted = NumberChange(**given)
    except ValidationError as error:
        fail(explain(error), Exit.USAGE)
    service, caller = acting(organization)
    found = number_of(service, caller, number)
    done = service.change_number(caller, format_id("num", found.id), wanted)
    if isinstance(done, JobRecord):
        if wait:
            done = follow(service, caller, done, quiet=as_json)
        finish(done, as_json=as_json)
    elif as_json:
        show_json(_facts(done))
    else:
        say(f"{done.e164} is changed")


def release(
    number: NumberOrId,
    organization: Organization,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Gives a number back: its routing as it was before the import, and nothing of ours left.

    It stays the customer's at the provider. Asks first; in a script give --yes.

    Exit codes: 0 released, 1 failed or not confirmed, 2 wrong usage, 3 not final yet.

    Example: trunkline release +14155550100 -o Acme
    """
    if not yes and not sys.stdin.isatty():
        fail("there is nobody to ask; give --yes", Exit.USAGE)
    service, caller = acting(organization)
    found = number_of(service, caller, number)
    label = f", {found.friendly_name}" if found.friendly_name else ""
    about = f"{found.e164} ({found.provider}{label})"
    question = f"Release {about}? Its calls will go where they went before the import."
    if not yes and not _confirmed(question):
        fail("nothing was changed", Exit.FAILED)
    job = service.release(caller, format_id("num", found.id))
    if wait:
        job = follow(service, caller, job, quiet=as_json)
    finish(job, as_json=as_json)


def events(
    number: NumberOrId,
    organization: Organization,
    kind: Annotated[EventKind | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Lists what a provider reported of a number's calls, messages and recordings, newest first.

    A number that was given back is named by its id.

    Exit codes: 0 done, 1 there is no such number, 2 wrong usage.

    Example: trunkline events +14155550100 -o Acme --kind call
    """
    service, caller = acting(organization)
    if not number.startswith("num_"):
        number = format_id("num", number_of(service, caller, number).id)
    found = service.list_events(caller, number, limit=limit, cursor=None, kind=kind)
    if as_json:
        show_json(
            [
                {
                    "id": format_id("evt", one.id),
                    "kind": one.kind,
                    "received_at": one.received_at,
                    "data": one.data,
                }
                for one in found
            ]
        )
        return
    show_table(
        ("received_at", "kind", *_EVENT_COLUMNS, "more"),
        [
            (
                when(one.received_at),
                one.kind,
                *(_text(one.data.get(name)) for name in _EVENT_COLUMNS),
                _more(one),
            )
            for one in found
        ],
    )


def _confirmed(question: str) -> bool:
    # The name of a number is its owner's: it must not be able to fake the question.
    return typer.confirm(printable(question), err=True)


def _given(**values: str | None) -> dict[str, Any]:
    """What was said of these: an empty text takes away."""
    return {name: value or None for name, value in values.items() if value is not None}


def _more(event: StoredEvent) -> str:
    """What the columns do not tell; ids are left to --json, they would fold every row."""
    rest = [
        f"{name}={value}"
        for name, value in event.data.items()
        if name not in _EVENT_COLUMNS and not name.endswith("_id") and value is not None
    ]
    return " ".join(rest)


def _verdict(number: NumberRecord) -> str | None:
    return None if number.diagnosis is None else str(number.diagnosis["verdict"])


def _facts(number: NumberRecord) -> dict[str, Any]:
    """Everything of a number that its organisation may see."""
    return {
        "id": format_id("num", number.id),
        "phone_number": number.e164,
        "status": number.status,
        "friendly_name": number.friendly_name,
        "agent_id": id_or_none("agt", number.agent_id),
        "user_id": id_or_none("usr", number.user_id),
        "provider": number.provider,
        "provider_number_id": number.provider_number_id,
        "credential_id": format_id("cred", number.credential_id),
        "import_id": format_id("imp", number.import_id),
        "ownership": number.ownership,
        "routing_mode": number.routing_mode,
        "supports_inbound": number.supports_inbound,
        "supports_outbound": number.supports_outbound,
        "sms_capable": number.sms_capable,
        "country": number.country,
        "inbound_trunk_id": number.inbound_trunk_id,
        "outbound_trunk_id": number.outbound_trunk_id,
        "dispatch_rule_id": number.dispatch_rule_id,
        "verdict": _verdict(number),
        "summary": (number.diagnosis or {}).get("summary"),
        "checked_at": number.checked_at,
        "created_at": number.created_at,
        "price": number.details.get("price"),
        "metadata": number.details.get("metadata") or {},
        "carrier": number.details.get("carrier"),
    }


def _text(value: Any) -> str:  # noqa: ANN401 -- a fact of a number or an event
    """A value for people."""
    if value is None or value in ("", {}):
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return when(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
