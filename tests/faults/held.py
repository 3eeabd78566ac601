"""Numbers that have been imported already, for the jobs that come after: made in bulk, and judged.

At every vendor and in both modes, each in an account of its own, so that what a release leaves can
be compared with the whole account as it was before the import.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from livekit.protocol.sip import DeleteSIPDispatchRuleRequest, DeleteSIPTrunkRequest

from tests.faults.scenes import Call
from tests.rig import Rig
from tests.vendors import VENDORS, Order, Vendor, order_of


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of imported number."""

    vendor: Vendor
    mode: str

    def __str__(self) -> str:
        return f"{self.vendor.name}-{self.mode}"


KINDS: Final = [
    Kind(vendor=vendor, mode=mode) for vendor in VENDORS for mode in ("webhook", "sip_trunk")
]
WEBHOOKS: Final = [kind for kind in KINDS if kind.mode == "webhook"]


@dataclass(frozen=True, kw_only=True)
class Held:
    """An active number, and what its account was before."""

    kind: Kind
    order: Order
    before: Mapping[str, Any]
    import_id: str
    number_id: str

    @property
    def path(self) -> str:
        return f"/v1/phone-numbers/{self.number_id}"


def everything(rig: Rig, kind: Kind) -> dict[str, Any]:
    """Returns a request that makes all that there is to undo."""
    inbound = {"fallback_agent_id": rig.agent("night-shift")} if kind.mode == "webhook" else {}
    # At Plivo messages go where calls go, whatever is asked for.
    return {"agent_id": rig.agent("receptionist"), "inbound": inbound, "sms_enabled": True}


def hold(rig: Rig, kinds: Iterable[Kind], request: Mapping[str, Any] | None = None) -> list[Held]:
    """Imports one number of each kind given, with all there is or as asked; a worker must run."""
    kinds = list(kinds)
    asked = {kind: request or everything(rig, kind) for kind in dict.fromkeys(kinds)}
    orders = [order_of(rig, kind.vendor, kind.mode, **asked[kind]) for kind in kinds]
    state = rig.state()
    submitted = [rig.api.post("/v1/imports", json=order.body) for order in orders]
    assert {answer.status_code for answer in submitted} == {202}, submitted[0].text
    rig.settle()
    held = []
    for kind, order, answer in zip(kinds, orders, submitted, strict=True):
        job = rig.job(answer.json()["id"])
        assert job["status"] == "active", job["error"]
        held.append(
            Held(
                kind=kind,
                order=order,
                before=state[order.vendor]["accounts"][order.account],
                import_id=job["id"],
                number_id=job["phone_number_id"],
            )
        )
    return held


def release(rig: Rig, held: Held) -> str:
    """Asks for a release and returns its job's id."""
    answer = rig.api.delete(held.path)
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


def released_calls(rig: Rig, kinds: Iterable[Kind]) -> dict[Kind, list[Call]]:
    """Releases a number of each kind, undisturbed, and returns every outside call it took."""
    jobs = {release(rig, held): held for held in hold(rig, kinds)}
    rig.settle()
    assert not (wrong := not_given_back(rig, jobs)), wrong
    return {held.kind: journal_of(rig, job_id) for job_id, held in jobs.items()}


def journal_of(rig: Rig, job_id: str) -> list[Call]:
    """Returns every outside call of a job."""
    return [
        Call(nth=nth, step=entry["step"], operation=entry["operation"], write=entry["write"])
        for nth, entry in enumerate(rig.journal(job_id), start=1)
    ]


def not_given_back(rig: Rig, jobs: Mapping[str, Held]) -> list[str]:
    """Returns what is wrong with numbers that were released; nothing if each is as it was."""
    wrong, state = [], rig.state()
    for job_id, held in jobs.items():
        job = rig.job(job_id)
        if job["status"] != "released":
            wrong.append(f"{job_id} is {job['status']}: {job.get('undo_error')}")
            continue
        found = state[held.order.vendor]["accounts"][held.order.account]
        wrong += [f"{job_id} left {what}" for what in differences(held.before, found)]
        wrong += [f"{job_id} left {what}" for what in at_livekit(state, held)]
    return wrong


def at_livekit(state: Mapping[str, Any], held: Held) -> list[str]:
    """Names everything of a number's import at LiveKit."""
    kinds = ("inbound_trunks", "outbound_trunks", "dispatch_rules")
    texts = ((kind, json.dumps(one)) for kind in kinds for one in state["livekit"][kind].values())
    number = held.order.number.lstrip("+")
    return [f"one of {kind}" for kind, text in texts if held.import_id in text or number in text]


def differences(before: Any, after: Any, path: str = "account") -> list[str]:
    """Names each place in which two states differ, and how."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            what
            for key in sorted(before.keys() | after.keys())
            for what in differences(before.get(key), after.get(key), f"{path}.{key}")
        ]
    return [] if before == after else [f"{path}: {after!r}, was {before!r}"]


#: Vendor → where its account keeps what imports make, and what an edit calls it; users of others
#: first.
_MADE: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "twilio": (("trunks", "trunk"), ("credential_lists", "credential_list")),
    "telnyx": (
        ("connections", ""),  # by their record type
        ("outbound_voice_profiles", ""),
        ("messaging_profiles", ""),
    ),
    "plivo": (
        ("applications", "application"),
        ("trunks", "trunk"),
        ("uris", "uri"),
        ("credentials", "credential"),
    ),
}


def made(state: Mapping[str, Any], held: Held) -> list[tuple[str, str]]:
    """Returns kind and id of everything that carries the import's name at its vendor."""
    account = state[held.order.vendor]["accounts"][held.order.account]
    stores = {**account, **account.get("zentrunk", {})}
    name = f"trunkline-{held.import_id.replace('_', '-')}"
    return [
        (kind or one["record_type"], found)
        for store, kind in _MADE[held.order.vendor]
        for found, one in stores[store].items()
        if name in json.dumps(one)
    ]


def lose(rig: Rig, held: Held) -> None:
    """Deletes everything that the import made, as somebody does who takes it for litter."""
    state = rig.state()
    where = {"vendor": held.order.vendor, "account": held.order.account}
    if str(held.kind) == "twilio-sip_trunk":
        # Twilio lets nobody delete a trunk that a number is on.
        number = {"phone_number": held.order.number, "set": {"trunk_sid": ""}}
        rig.control("edit", {**where, **number})
    for kind, found in made(state, held):
        rig.control("edit", {**where, "kind": kind, "id": found, "remove": True})
    livekit = state["livekit"]
    for rule_id, rule in livekit["dispatch_rules"].items():
        if held.import_id in json.dumps(rule):
            rule_request = DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id=rule_id)
            rig.livekit("DeleteSIPDispatchRule", rule_request)
    for trunk_id, trunk in (livekit["inbound_trunks"] | livekit["outbound_trunks"]).items():
        if held.import_id in json.dumps(trunk):
            lose_trunk(rig, trunk_id)


def lose_trunk(rig: Rig, trunk_id: str) -> None:
    """Deletes a trunk at LiveKit."""
    rig.livekit("DeleteSIPTrunk", DeleteSIPTrunkRequest(sip_trunk_id=trunk_id))


def repair(rig: Rig, held: Held) -> str:
    """Asks for a repair and returns its job's id."""
    answer = rig.api.post(f"{held.path}/check", params={"repair": "true"})
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


def rebind(rig: Rig, held: Held, change: Mapping[str, Any]) -> str:
    """Asks for other agents and returns the job's id."""
    answer = rig.api.patch(held.path, json=change)
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


def how_many(state: Mapping[str, Any], held: Held) -> dict[str, int]:
    """Counts what exists of each kind for an import, at its vendor and at LiveKit."""
    return dict(Counter([*(kind for kind, _ in made(state, held)), *at_livekit(state, held)]))
