"""The operations of LiveKit's SIP service, after livekit/livekit pkg/service/sip.go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from livekit.protocol.models import ListUpdate
from livekit.protocol.sip import (
    CreateSIPDispatchRuleRequest,
    CreateSIPInboundTrunkRequest,
    CreateSIPOutboundTrunkRequest,
    DeleteSIPDispatchRuleRequest,
    DeleteSIPTrunkRequest,
    ListSIPDispatchRuleRequest,
    ListSIPDispatchRuleResponse,
    ListSIPInboundTrunkRequest,
    ListSIPInboundTrunkResponse,
    ListSIPOutboundTrunkRequest,
    ListSIPOutboundTrunkResponse,
    SIPDispatchRuleInfo,
    SIPDispatchRuleUpdate,
    SIPInboundTrunkInfo,
    SIPInboundTrunkUpdate,
    SIPOutboundTrunkInfo,
    SIPOutboundTrunkUpdate,
    SIPTrunkInfo,
    UpdateSIPDispatchRuleRequest,
    UpdateSIPInboundTrunkRequest,
    UpdateSIPOutboundTrunkRequest,
)

from deploy.sandbox.livekit_rules import (
    TwirpError,
    invalid,
    normalized,
    updated_list,
    validate_inbound,
    validate_list_update,
    validate_outbound,
    validate_rule,
)
from deploy.sandbox.livekit_store import Info, Project, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from livekit.protocol.models import Pagination

    ListRequest = (
        ListSIPInboundTrunkRequest | ListSIPOutboundTrunkRequest | ListSIPDispatchRuleRequest
    )
    Update = SIPInboundTrunkUpdate | SIPOutboundTrunkUpdate | SIPDispatchRuleUpdate
    UpdateRequest = (
        UpdateSIPInboundTrunkRequest | UpdateSIPOutboundTrunkRequest | UpdateSIPDispatchRuleRequest
    )


def create_inbound(project: Project, request: CreateSIPInboundTrunkRequest) -> SIPInboundTrunkInfo:
    """Refuses what conflicts with another inbound trunk."""
    _require_new(request)
    trunk = _copy(request.trunk)
    validate_inbound(trunk)
    project.refuse_trunk_conflicts(trunk)
    return project.put_inbound(trunk)


def create_outbound(
    project: Project, request: CreateSIPOutboundTrunkRequest
) -> SIPOutboundTrunkInfo:
    """Nothing is unique about outbound trunks: the same request twice makes two."""
    _require_new(request)
    trunk = _copy(request.trunk)
    validate_outbound(trunk)
    return project.put_outbound(trunk)


def create_rule(project: Project, request: CreateSIPDispatchRuleRequest) -> SIPDispatchRuleInfo:
    """Takes the rule whole, or in the deprecated form spread over the request."""
    rule = SIPDispatchRuleInfo()
    if request.HasField("dispatch_rule"):
        rule.CopyFrom(request.dispatch_rule)
        if rule.sip_dispatch_rule_id:
            raise invalid("rule id must not be set")
    else:
        for field, value in request.ListFields():
            target = getattr(rule, field.name)
            if field.is_repeated and field.message_type is None:
                target.extend(value)
            elif field.is_repeated:
                target.update(value)
            elif field.message_type is not None:
                target.CopyFrom(value)
            else:
                setattr(rule, field.name, value)
    validate_rule(rule)
    # Only the deprecated form names trunks where the server looks for what to compare with.
    project.refuse_rule_conflicts(rule, scope=set(request.trunk_ids))
    return project.put_rule(rule)


def list_inbound(
    project: Project, request: ListSIPInboundTrunkRequest
) -> ListSIPInboundTrunkResponse:
    """By number in any spelling, together with the trunks that take every number."""
    numbers = {normalized(item) for item in request.numbers}
    items = _listed(
        project.inbound, request.trunk_ids, numbers, _page(request), SIPInboundTrunkInfo
    )
    return ListSIPInboundTrunkResponse(items=items)


def list_outbound(
    project: Project, request: ListSIPOutboundTrunkRequest
) -> ListSIPOutboundTrunkResponse:
    """By number exactly as it was stored."""
    items = _listed(
        project.outbound,
        request.trunk_ids,
        set(request.numbers),
        _page(request),
        SIPOutboundTrunkInfo,
    )
    return ListSIPOutboundTrunkResponse(items=items)


def list_rules(
    project: Project, request: ListSIPDispatchRuleRequest
) -> ListSIPDispatchRuleResponse:
    """By trunk, together with the rules that take every trunk."""
    items = _listed(
        project.rules,
        request.dispatch_rule_ids,
        set(request.trunk_ids),
        _page(request),
        SIPDispatchRuleInfo,
    )
    return ListSIPDispatchRuleResponse(items=items)


def update_inbound(project: Project, request: UpdateSIPInboundTrunkRequest) -> SIPInboundTrunkInfo:
    """Replaces the trunk, or changes some fields of it."""
    name = request.sip_trunk_id
    if _action(request, name, request.replace.sip_trunk_id, "trunk") == "replace":
        validate_inbound(request.replace)
        _existing(project.inbound, name, "trunk")
        trunk = _copy(request.replace)
    else:
        _validate_lists(request.update)
        trunk = _copy(_existing(project.inbound, name, "trunk"))
        _apply(trunk, request.update)
        _validate_applied(trunk, validate_inbound)
    trunk.sip_trunk_id = name
    project.refuse_trunk_conflicts(trunk)
    return project.put_inbound(trunk)


def update_outbound(
    project: Project, request: UpdateSIPOutboundTrunkRequest
) -> SIPOutboundTrunkInfo:
    """Replaces the trunk, or changes some fields of it."""
    name = request.sip_trunk_id
    if _action(request, name, request.replace.sip_trunk_id, "trunk") == "replace":
        validate_outbound(request.replace)
        _existing(project.outbound, name, "trunk")
        trunk = _copy(request.replace)
    else:
        _validate_lists(request.update)
        trunk = _copy(_existing(project.outbound, name, "trunk"))
        _apply(trunk, request.update)
        _validate_applied(trunk, validate_outbound)
    trunk.sip_trunk_id = name
    return project.put_outbound(trunk)


def update_rule(project: Project, request: UpdateSIPDispatchRuleRequest) -> SIPDispatchRuleInfo:
    """Replaces the rule, or changes some fields of it."""
    name = request.sip_dispatch_rule_id
    if _action(request, name, request.replace.sip_dispatch_rule_id, "rule") == "replace":
        validate_rule(request.replace)
        _existing(project.rules, name, "dispatch rule")
        rule = _copy(request.replace)
    else:
        _validate_lists(request.update)
        rule = _copy(_existing(project.rules, name, "dispatch rule"))
        _apply(rule, request.update)
        _validate_applied(rule, validate_rule)
    rule.sip_dispatch_rule_id = name
    project.refuse_rule_conflicts(rule, scope=set(rule.trunk_ids))
    return project.put_rule(rule)


def delete_trunk(project: Project, request: DeleteSIPTrunkRequest) -> SIPTrunkInfo:
    """Deletes either kind; succeeds for an id that does not exist, and leaves rules alone."""
    name = request.sip_trunk_id
    if not name:
        raise invalid("trunk ID is required")
    project.pop_inbound(name)
    project.outbound.pop(name)
    return SIPTrunkInfo(sip_trunk_id=name)


def delete_rule(project: Project, request: DeleteSIPDispatchRuleRequest) -> SIPDispatchRuleInfo:
    """Deletes a rule that exists."""
    if not request.sip_dispatch_rule_id:
        raise invalid("dispatch rule ID is required")
    rule = project.pop_rule(request.sip_dispatch_rule_id)
    if rule is None:
        raise TwirpError("not_found", "requested sip dispatch rule does not exist")
    return rule


def _require_new(
    request: CreateSIPInboundTrunkRequest | CreateSIPOutboundTrunkRequest,
) -> None:
    if not request.HasField("trunk"):
        raise invalid("missing trunk")
    if request.trunk.sip_trunk_id:
        raise invalid("trunk id must not be set")


def _listed(
    store: Store[Info],
    ids: Iterable[str],
    tags: set[str],
    page: Pagination | None,
    empty: Callable[[], Info],
) -> list[Info]:
    """By id, an id that does not exist gives an empty item in its place."""
    wanted = list(ids)
    if not wanted:
        return store.select(tags, page)
    found = (store.items.get(name) for name in wanted)
    return [item or empty() for item in found if item is None or store.matches(item, tags)]


def _page(request: ListRequest) -> Pagination | None:
    return request.page if request.HasField("page") else None


def _copy(item: Info) -> Info:
    copy = type(item)()
    copy.CopyFrom(item)
    return copy


def _existing(store: Store[Info], name: str, kind: str) -> Info:
    item = store.items.get(name)
    if item is None:
        raise TwirpError("not_found", f"requested sip {kind} does not exist")
    return item


def _action(
    request: UpdateRequest, name: str, name_inside: str, kind: str
) -> Literal["replace", "update"]:
    if not name:
        raise invalid(f"{kind} id must be set")
    if request.HasField("update"):
        return "update"
    if not request.HasField("replace"):
        raise invalid("missing or unsupported update action")
    if name_inside not in {"", name}:
        raise invalid(f"{kind} id in the info must be empty or match the id in the update")
    return "replace"


def _validate_lists(update: Update) -> None:
    for _, value in update.ListFields():
        if isinstance(value, ListUpdate):
            validate_list_update(value)


def _apply(item: Info, update: Update) -> None:
    for field, value in update.ListFields():
        if isinstance(value, ListUpdate):
            changed = updated_list(getattr(item, field.name), value)
            item.ClearField(field.name)
            getattr(item, field.name).extend(changed)
        elif field.name == "attributes":
            # An empty value removes the attribute.
            for key, text in value.items():
                getattr(item, field.name).pop(key, None)
                if text:
                    getattr(item, field.name)[key] = text
        elif field.message_type is not None:
            getattr(item, field.name).CopyFrom(value)
        else:
            setattr(item, field.name, value)


def _validate_applied(item: Info, validate: Callable[[Info], None]) -> None:
    """What is wrong only after an update was applied surfaces as an internal error."""
    try:
        validate(item)
    except TwirpError as problem:
        raise TwirpError("internal", problem.message) from problem
