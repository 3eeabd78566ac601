"""Create, list, retrieve, update and delete for every kind of resource, and what they refuse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from deploy.sandbox.telnyx_fields import changed, check_fields, merged, replaced
from deploy.sandbox.telnyx_kinds import (
    CONNECTION_FILTERS,
    CONNECTION_SORTS,
    FQDN_CONNECTIONS,
    KINDS,
    Filter,
    Kind,
)
from deploy.sandbox.telnyx_render import connection_document, fqdn_authentication, resource_document
from deploy.sandbox.telnyx_state import Account, Resource, TelnyxState, now
from deploy.sandbox.telnyx_wire import (
    PAGE_PARAMETERS,
    Context,
    not_found,
    ok,
    page,
    refused,
    refused_query,
)
from deploy.sandbox.vendor import Route, json_answer

if TYPE_CHECKING:
    from deploy.sandbox.telnyx_wire import Operation
    from deploy.sandbox.vendor import Answer

_FQDN_IDS: Final = tuple(f"default_{name}_fqdn_id" for name in ("primary", "secondary", "tertiary"))


def add(
    state: TelnyxState,
    account: Account,
    kind: Kind,
    body: Mapping[str, object],
    resource_id: str | None = None,
) -> Resource:
    """Creates a resource under the vendor's rules. Raises TelnyxError."""
    _require(kind.required, body)
    check_fields(kind.fields, body)
    resource = Resource(
        id=resource_id or kind.new_id(),
        record_type=kind.record_type,
        values=_completed(kind, replaced(kind.fields, body)),
    )
    _verify(state, account, kind, resource, resource.values)
    account.resources(kind.store)[resource.id] = resource
    _claim_user_name(state, resource)
    return resource


def change_by_hand(
    state: TelnyxState,
    account: Account,
    kind: Kind,
    resource: Resource,
    given: Mapping[str, object],
) -> None:
    """Changes what is given, at every level. Raises TelnyxError."""
    check_fields(kind.fields, given)
    _apply(state, account, kind, resource, merged(resource.values, given))


def remove_by_hand(state: TelnyxState, account: Account, kind: Kind, resource: Resource) -> None:
    """Deletes a resource and takes it off whatever uses it."""
    del account.resources(kind.store)[resource.id]
    _detach(account, resource)
    state.user_names.pop(resource.text("user_name"), None)


def _apply(
    state: TelnyxState,
    account: Account,
    kind: Kind,
    resource: Resource,
    wanted: dict[str, object],
) -> None:
    values = _completed(kind, wanted)
    _verify(state, account, kind, resource, values)
    state.user_names.pop(resource.text("user_name"), None)
    resource.values = values
    resource.updated = now()
    _claim_user_name(state, resource)


def _create(kind: Kind, context: Context) -> Answer:
    resource = add(context.state, context.account, kind, context.body)
    document = resource_document(context.account, resource, shows_password=True)
    return json_answer(kind.created_status, {"data": document})


def _retrieve(kind: Kind, context: Context) -> Answer:
    return ok(resource_document(context.account, _find(kind, context)))


def _update(kind: Kind, context: Context) -> Answer:
    _require(kind.required_on_update, context.body)
    return _change(kind, context, context.body)


def _delete(kind: Kind, context: Context) -> Answer:
    """Deletes a resource, unless something uses it; see `Rules.deletes_in_use`."""
    account = context.account
    resource = _find(kind, context)
    if not account.rules.deletes_in_use and (user := _first_user(account, resource)):
        raise refused("/base", f"{resource.record_type} is in use by {user}")
    remove_by_hand(context.state, account, kind, resource)
    return ok(resource_document(account, resource))


def _index(kind: Kind, context: Context) -> Answer:
    items = context.account.resources(kind.store).values()
    own = [item for item in items if item.record_type == kind.record_type]
    found = _selected(context, own, kind.filters, kind.sorts)
    return page(context.query, found, partial(resource_document, context.account))


def _list_connections(context: Context) -> Answer:
    """Connections of every kind."""
    found = _selected(
        context, context.account.connections.values(), CONNECTION_FILTERS, CONNECTION_SORTS
    )
    return page(context.query, found, connection_document)


def _retrieve_connection(context: Context) -> Answer:
    """A connection of any kind: what all kinds have in common."""
    resource = context.account.connections.get(context.ids["id"])
    if resource is None:
        raise not_found()
    return ok(connection_document(resource))


def _retrieve_authentication(context: Context) -> Answer:
    """How a connection authenticates outbound calls."""
    return ok(fqdn_authentication(context.account, _find(FQDN_CONNECTIONS, context)))


def _update_authentication(context: Context) -> Answer:
    """Changes it. That it is the connection's own user name, password and method is assumed."""
    names = {"fqdn_outbound_authentication", "user_name", "password"}
    if unknown := sorted(context.body.keys() - names):
        raise refused(f"/{unknown[0]}", f"{unknown[0]} is not a known field")
    given = dict(context.body)
    resource = _find(FQDN_CONNECTIONS, context)
    if method := given.pop("fqdn_outbound_authentication", None):
        outbound = resource.values["outbound"]
        assert isinstance(outbound, Mapping)
        given["outbound"] = {**outbound, "ip_authentication_method": method}
    _change(FQDN_CONNECTIONS, context, given)
    shows = "password" in context.body
    return ok(fqdn_authentication(context.account, resource, shows_password=shows))


def _change(kind: Kind, context: Context, body: Mapping[str, object]) -> Answer:
    resource = _find(kind, context)
    check_fields(kind.fields, body)
    before = resource.values.get("password")
    values = changed(kind.fields, resource.values, body)
    _apply(context.state, context.account, kind, resource, values)
    shows = resource.values.get("password") != before
    return ok(resource_document(context.account, resource, shows_password=shows))


def _find(kind: Kind, context: Context) -> Resource:
    resource = context.account.resources(kind.store).get(context.ids["id"])
    if resource is None or resource.record_type != kind.record_type:
        raise not_found()
    return resource


def _require(names: tuple[str, ...], body: Mapping[str, object]) -> None:
    for name in names:
        if body.get(name) in (None, ""):
            raise refused(f"/{name}", f"{name} can't be blank", "10004")


def _completed(kind: Kind, values: dict[str, object]) -> dict[str, object]:
    """What the vendor fills in: "if the type is 'a' and a port is not specified, 5060"."""
    if kind.record_type == "fqdn" and values["dns_record_type"] == "a" and values["port"] is None:
        values["port"] = 5060
    return values


def _claim_user_name(state: TelnyxState, resource: Resource) -> None:
    if name := resource.text("user_name"):
        state.user_names[name] = resource.id


def _verify(
    state: TelnyxState,
    account: Account,
    kind: Kind,
    resource: Resource,
    values: Mapping[str, object],
) -> None:
    """What fields must be together and to the rest of the account. Raises TelnyxError."""
    after = Resource(id=resource.id, record_type=kind.record_type, values=dict(values))
    profile = after.outbound_voice_profile_id
    if profile and profile not in account.outbound_voice_profiles:
        raise refused("/outbound/outbound_voice_profile_id", "", "10017")
    if (
        kind.store != "fqdns"
        and account.rules.unique_names
        and any(
            item.name == after.name and item.record_type == kind.record_type and item.id != after.id
            for item in account.resources(kind.store).values()
        )
    ):
        raise refused("/base", "", "10012")
    if bool(after.text("user_name")) != bool(after.text("password")):
        # Assumed: half of the credentials are of no use.
        raise refused("/user_name", "user_name and password must be set together")
    if state.user_names.get(after.text("user_name"), after.id) != after.id:
        # SIP user names share one registrar, so across all accounts; assumed.
        raise refused("/user_name", "user_name has already been taken", "10012")
    if kind.record_type == "fqdn_connection":
        _verify_fqdn_connection(account, after)
    elif kind.record_type == "fqdn":
        _verify_fqdn(account, after)


def _verify_fqdn_connection(account: Account, after: Resource) -> None:
    inbound, outbound = after.values["inbound"], after.values["outbound"]
    assert isinstance(inbound, Mapping)
    assert isinstance(outbound, Mapping)
    if after.values["encrypted_media"] or outbound["encrypted_media"]:
        # The reference says "only when the transport is TLS", users report that TLS and SRTP
        # exclude each other. Until somebody has tried, neither works here.
        raise refused("/encrypted_media", "encrypted_media does not go with transport_protocol")
    for name in _FQDN_IDS:
        fqdn = account.fqdns.get(inbound[name] or "")
        if inbound[name] and (fqdn is None or fqdn.text("connection_id") != after.id):
            raise refused(f"/inbound/{name}", "must be an FQDN of the connection", "10017")


def _verify_fqdn(account: Account, after: Resource) -> None:
    connection = account.connections.get(after.text("connection_id"))
    if connection is None or connection.record_type != "fqdn_connection":
        raise refused("/connection_id", "", "10017")
    # "For cases where a port is set, the DNS record type must be 'a'."
    if after.values["dns_record_type"] == "srv" and after.values["port"] is not None:
        raise refused("/dns_record_type", "dns_record_type must be 'a' when a port is set")
    same = ("connection_id", "fqdn", "port")
    if any(
        item.id != after.id and all(item.text(name) == after.text(name) for name in same)
        for item in account.fqdns.values()
    ):
        # Not documented.
        raise refused("/fqdn", "", "10012")


def _first_user(account: Account, resource: Resource) -> str:
    """Somebody who would notice if the resource were gone; empty if nobody would."""
    match resource.record_type:
        case "fqdn":
            return ""
        case "messaging_profile":
            users: Iterable[str] = (
                number.phone_number
                for number in account.numbers.values()
                if number.messaging_profile_id == resource.id
            )
        case "outbound_voice_profile":
            users = (
                item.name
                for item in account.connections.values()
                if item.outbound_voice_profile_id == resource.id
            )
        case _:
            numbers = [number.phone_number for number in account.numbers_on(resource.id)]
            users = [
                *numbers,
                *(
                    fqdn.name
                    for fqdn in account.fqdns.values()
                    if fqdn.text("connection_id") == resource.id
                ),
            ]
    return next(iter(users), "")


def _detach(account: Account, resource: Resource) -> None:
    """Everything that pointed at the resource points at nothing."""
    for number in account.numbers.values():
        if number.connection_id == resource.id:
            number.connection_id = None
        if number.messaging_profile_id == resource.id:
            number.messaging_profile_id = None
    for item in account.connections.values():
        inbound = item.values.get("inbound")
        if isinstance(inbound, Mapping) and resource.id in inbound.values():
            kept = {name: None for name in _FQDN_IDS if inbound.get(name) == resource.id}
            item.values = merged(item.values, {"inbound": kept})
        if item.outbound_voice_profile_id == resource.id:
            lost: dict[str, object] = {"outbound_voice_profile_id": None}
            item.values = merged(
                item.values, {"outbound": lost} if "outbound" in item.values else lost
            )
    account.fqdns = {
        name: fqdn
        for name, fqdn in account.fqdns.items()
        if fqdn.text("connection_id") != resource.id
    }


def _selected(
    context: Context,
    items: Iterable[Resource],
    filters: Mapping[str, Filter],
    sorts: tuple[str, ...],
) -> list[Resource]:
    """What the query asks for; newest first unless it says otherwise."""
    query = context.query
    if unknown := query.keys() - filters.keys() - PAGE_PARAMETERS - {"sort"}:
        raise refused_query(min(unknown), "unknown query parameter")
    predicates = [
        build(context.account, name, query[name])
        for name, build in filters.items()
        if name in query
    ]
    found = [item for item in items if all(keep(item) for keep in predicates)]
    key = query.get("sort", "-created_at")
    descending, field = key.startswith("-"), key.removeprefix("-")
    if field not in {"created_at", *sorts}:
        raise refused_query("sort", f"cannot sort by {field}")
    if field != "created_at":
        found.sort(
            key=lambda item: item.name if field.endswith("name") else str(item.values.get(field))
        )
    return found[::-1] if descending else found


def _routes(kind: Kind) -> tuple[Route[Operation], ...]:
    name, path = f"telnyx.{kind.path}", f"/v2/{kind.path}"
    return (
        Route(f"{name}.list", "GET", path, partial(_index, kind)),
        Route(f"{name}.create", "POST", path, partial(_create, kind)),
        Route(f"{name}.retrieve", "GET", f"{path}/{{id}}", partial(_retrieve, kind)),
        Route(f"{name}.update", "PATCH", f"{path}/{{id}}", partial(_update, kind)),
        Route(f"{name}.delete", "DELETE", f"{path}/{{id}}", partial(_delete, kind)),
    )


_AUTHENTICATION: Final = "/v2/fqdn_connections/{id}/fqdn_authentication"

ROUTES: Final[tuple[Route[Operation], ...]] = (
    Route("telnyx.connections.list", "GET", "/v2/connections", _list_connections),
    Route("telnyx.connections.retrieve", "GET", "/v2/connections/{id}", _retrieve_connection),
    Route(
        "telnyx.fqdn_connections.fqdn_authentication.list",
        "GET",
        _AUTHENTICATION,
        _retrieve_authentication,
    ),
    Route(
        "telnyx.fqdn_connections.fqdn_authentication.patch_all",
        "PATCH",
        _AUTHENTICATION,
        _update_authentication,
    ),
    *(route for kind in KINDS for route in _routes(kind)),
)
