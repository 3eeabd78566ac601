"""Reads what an import made at LiveKit, by recorded id: one listing a kind, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from worker.domain.values import Fields, Objects
from worker.livekit.fields import (
    inbound_fields,
    outbound_fields,
    rule_fields,
    rule_shadows,
    trunk_shadows,
    wanted_rule,
)
from worker.livekit.requests import Info, Requests, id_of, settled, with_known
from worker.livekit.specs import (
    FALLBACK_INBOUND,
    FALLBACK_RULE,
    INBOUND,
    OUTBOUND,
    RULE,
    SipSetup,
    fallback_user,
    inbound_info,
    outbound_info,
)

if TYPE_CHECKING:
    from livekit import api


async def read_objects(
    requests: Requests, setup: SipSetup, objects: Objects, import_id: str
) -> Mapping[str, Fields | None]:
    """Returns the fields of what is wanted and recorded; None for what is gone."""
    reading = (_inbound, _outbound, _rules)
    parts = await settled(*(read(requests, setup, objects, import_id) for read in reading))
    return {key: fields for part in parts for key, fields in part.items()}


async def _inbound(
    requests: Requests, setup: SipSetup, objects: Objects, import_id: str
) -> dict[str, Fields | None]:
    wanted = {INBOUND: setup.inbound, FALLBACK_INBOUND: setup.fallback and setup.fallback.trunk}
    specs = {key: spec for key, spec in wanted.items() if spec and key in objects}
    if not specs:
        return {}
    listed = await with_known(
        [objects[key] for key in specs],
        lambda: requests.inbound_trunks(*(spec.number for spec in specs.values())),
        requests.inbound_by_id,
    )
    fields: dict[str, Fields | None] = {}
    for key, spec in specs.items():
        found, others = _apart(listed, objects[key])
        shadows = trunk_shadows(others, spec.number)
        fields[key] = (
            inbound_fields(found, inbound_info(spec, import_id), shadows) if found else None
        )
    return fields


async def _outbound(
    requests: Requests, setup: SipSetup, objects: Objects, import_id: str
) -> dict[str, Fields | None]:
    if setup.outbound is None or OUTBOUND not in objects:
        return {}
    found, _ = _apart(await requests.outbound_by_id([objects[OUTBOUND]]), objects[OUTBOUND])
    ours = outbound_info(setup.outbound, import_id)
    return {OUTBOUND: outbound_fields(found, ours) if found else None}


async def _rules(
    requests: Requests, setup: SipSetup, objects: Objects, import_id: str
) -> dict[str, Fields | None]:
    wanted = {RULE: setup.rule, FALLBACK_RULE: setup.fallback and setup.fallback.rule}
    specs = {key: spec for key, spec in wanted.items() if spec and key in objects}
    trunks = {RULE: INBOUND, FALLBACK_RULE: FALLBACK_INBOUND}
    serving = {key: objects.get(trunks[key]) or spec.trunk_id for key, spec in specs.items()}
    trunk_ids = [each for each in serving.values() if each]

    async def find() -> list[api.SIPDispatchRuleInfo]:
        # Without a filter it would list every rule of the project.
        return await requests.rules(trunk_ids=trunk_ids) if trunk_ids else []

    listed = await with_known([objects[key] for key in specs], find, requests.rules_by_id)
    fields: dict[str, Fields | None] = {}
    for key, spec in specs.items():
        found, others = _apart(listed, objects[key])
        ours = wanted_rule(spec, serving[key], import_id)
        called = spec.number if key == RULE else fallback_user(spec.number)
        shadows = rule_shadows(others, ours, called)
        fields[key] = rule_fields(found, ours, shadows) if found else None
    return fields


def _apart(listed: Iterable[Info], known: str) -> tuple[Info | None, list[Info]]:
    """Returns the object with the recorded id, and all others."""
    there = {id_of(info): info for info in listed}
    there.pop("", None)
    return there.pop(known, None), list(there.values())
