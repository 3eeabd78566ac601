"""The routes under `/_sandbox`: how a test looks inside and pulls the strings.

    GET    state                  everything every vendor holds, without secrets
    GET    journal                ?import_id= &vendor= &operation= &step= &after=<seq>
    POST   faults                 one fault or a list, see faults.py
    GET    faults                 with how many requests each has seen and hit
    DELETE faults                 all, or ?id=
    GET    holds                  parked requests
    POST   holds/release          {"ids": [...], "proceed": true}; both optional: cuts all
    POST   reset                  forgets everything; the body may be a seed
    POST   seed                   {"<vendor>": {...}}, see twilio_seed.py and livekit.py
    POST   edit                   {"vendor": "twilio", "account", "phone_number", "set" | "remove"}
    POST   calls, messages, public-urls, agents: see phone.py

What cannot be done is a 400 with an `error`. Nothing here is journaled or subject to faults.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from deploy.sandbox.faults import FaultSpec

if TYPE_CHECKING:
    from deploy.sandbox.app import Sandbox

MOUNT: Final = "_sandbox"

#: Gives what is answered, or something to await for it.
_Command = Callable[["Sandbox", Mapping[str, str], object], object]


async def handle(sandbox: Sandbox, request: web.BaseRequest, name: str) -> web.Response:
    """Runs one control command; what cannot be done is a 400 that says why."""
    command = COMMANDS.get((request.method, name))
    if command is None:
        return _json({"error": f"no such control: {request.method} {request.path}"}, status=404)
    try:
        text = await request.text()
        result = command(sandbox, request.query, json.loads(text) if text else None)
        if inspect.isawaitable(result):
            result = await result
    except ValidationError as problem:
        return _json({"error": problem.errors(include_url=False, include_context=False)}, 400)
    except (KeyError, ValueError) as problem:
        return _json({"error": f"{type(problem).__name__}: {problem}"}, status=400)
    return _json(result)


class _Release(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ids: list[str] | None = None
    proceed: bool = False


class _JournalQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    after: int = 0
    import_id: str | None = None
    vendor: str | None = None
    operation: str | None = None
    step: str | None = None


_FAULTS: Final = TypeAdapter(list[FaultSpec])


def _state(sandbox: Sandbox, _query: Mapping[str, str], _body: object) -> object:
    return {name: vendor.state() for name, vendor in sandbox.vendors.items()}


def _journal(sandbox: Sandbox, query: Mapping[str, str], _body: object) -> object:
    conditions = _JournalQuery.model_validate(dict(query))
    entries = sandbox.journal.select(**conditions.model_dump())
    return {
        "entries": [entry.document() for entry in entries],
        "last": sandbox.journal.last,
        "dropped": sandbox.journal.dropped,
    }


def _list_faults(sandbox: Sandbox, _query: Mapping[str, str], _body: object) -> object:
    return {"faults": sandbox.faults.document()}


def _add_faults(sandbox: Sandbox, _query: Mapping[str, str], body: object) -> object:
    # All are parsed before the first is set, so that a bad list changes nothing.
    specs = _FAULTS.validate_python(body if isinstance(body, list) else [body])
    return {"faults": [sandbox.faults.add(spec).document() for spec in specs]}


def _remove_faults(sandbox: Sandbox, query: Mapping[str, str], _body: object) -> object:
    sandbox.faults.remove(query.get("id"))
    return {"faults": sandbox.faults.document()}


def _list_holds(sandbox: Sandbox, _query: Mapping[str, str], _body: object) -> object:
    return {"holds": sandbox.holds.document()}


def _release_holds(sandbox: Sandbox, _query: Mapping[str, str], body: object) -> object:
    order = _Release.model_validate(body or {})
    return {"released": sandbox.holds.release(order.ids, proceed=order.proceed)}


def _reset(sandbox: Sandbox, _query: Mapping[str, str], body: object) -> object:
    sandbox.reset()
    return _seed(sandbox, _query, body or {})


def _seed(sandbox: Sandbox, _query: Mapping[str, str], body: object) -> object:
    if not isinstance(body, dict):
        msg = "a seed is an object with one key per vendor"
        raise ValueError(msg)  # noqa: TRY004 - answered as a bad request like every other one
    sandbox.seed(body)
    return {"ok": True}


def _edit(sandbox: Sandbox, _query: Mapping[str, str], body: object) -> object:
    match body:
        case {"vendor": str(name), **rest} if name in sandbox.vendors:
            sandbox.vendors[name].edit(rest)
        case _:
            msg = f"an edit names its vendor: {', '.join(sandbox.vendors)}"
            raise ValueError(msg)
    return {"ok": True}


def _call(sandbox: Sandbox, _query: Mapping[str, str], body: object) -> object:
    return sandbox.phone.call(body)


def _message(sandbox: Sandbox, _query: Mapping[str, str], body: object) -> object:
    return sandbox.phone.message(body)


def _public_urls(sandbox: Sandbox, _query: Mapping[str, str], body: object) -> object:
    return {"public_urls": sandbox.phone.set_public_urls(body)}


def _agents(sandbox: Sandbox, _query: Mapping[str, str], body: object) -> object:
    return {"agents": sandbox.phone.set_agents(body)}


COMMANDS: Final[Mapping[tuple[str, str], _Command]] = MappingProxyType(
    {
        ("GET", "state"): _state,
        ("GET", "journal"): _journal,
        ("GET", "faults"): _list_faults,
        ("POST", "faults"): _add_faults,
        ("DELETE", "faults"): _remove_faults,
        ("GET", "holds"): _list_holds,
        ("POST", "holds/release"): _release_holds,
        ("POST", "reset"): _reset,
        ("POST", "seed"): _seed,
        ("POST", "edit"): _edit,
        ("POST", "calls"): _call,
        ("POST", "messages"): _message,
        ("POST", "public-urls"): _public_urls,
        ("POST", "agents"): _agents,
    }
)


def _json(document: object, status: int = 200) -> web.Response:
    return web.json_response(document, status=status)
