"""Numbers that have been imported already, for the jobs that come after: made in bulk, and judged.

At every vendor and in both modes, each in an account of its own, so that what a release leaves can
be compared with the whole account as it was before the import.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from livekit.protocol.sip import DeleteSIPDispatchRuleRequest, DeleteSIPTrunkRequest

from tests.faults.scenes import Call
from tests.rig import Rig
from tests.vendors import CARRIER, CARRIER_LOGIN, VENDORS, Order, Vendor, order_of


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
#: With the carriers of which there is no account to look into.
ALL_KINDS: Final = [*KINDS, Kind(vendor=CARRIER, mode="sip_trunk")]

#: What exists at LiveKit: kind, id, and the whole object as text.
Texts = list[tuple[str, str, str]]


@dataclass(frozen=True, kw_only=True)
class Held:
    """A number that is imported, and what its account was before."""

    kind: Kind
    order: Order
    before: Mapping[str, Any]
    import_id: str
    #: Known once the import has ended well.
    number_id: str = ""

    @property
    def path(self) -> str:
        return f"/v1/phone-numbers/{self.number_id}"


def everything(rig: Rig, kind: Kind) -> dict[str, Any]:
    """Returns a request that makes all that there is to undo."""
    inbound = {"fallback_agent_id": rig.agent("night-shift")} if kind.mode == "webhook" else {}
    # At Plivo messages go where calls go, whatever is asked for.
    sms = {} if kind.vendor is CARRIER else {"sms_enabled": True}
    return {"agent_id": rig.agent("receptionist"), "inbound": inbound, **sms}


def submit(rig: Rig, kinds: Iterable[Kind], request: Mapping[str, Any] | None = None) -> list[Held]:
    """Asks for an import of a number of each kind given, with all there is or as asked."""
    kinds = list(kinds)
    asked = {kind: request or everything(rig, kind) for kind in dict.fromkeys(kinds)}
    orders = [order_of(rig, kind.vendor, kind.mode, **asked[kind]) for kind in kinds]
    state = rig.state()
    submitted = [rig.api.post("/v1/imports", json=order.body) for order in orders]
    assert {answer.status_code for answer in submitted} == {202}, submitted[0].text
    return [
        Held(kind=kind, order=order, before=account_of(state, order), import_id=answer.json()["id"])
        for kind, order, answer in zip(kinds, orders, submitted, strict=True)
    ]


def hold(rig: Rig, kinds: Iterable[Kind], request: Mapping[str, Any] | None = None) -> list[Held]:
    """Imports one number of each kind given; a worker must run."""
    submitted = submit(rig, kinds, request)
    rig.settle()
    return [imported(rig, held) for held in submitted]


def imported(rig: Rig, held: Held) -> Held:
    """Returns a number whose import has ended well, with its id."""
    job = rig.job(held.import_id)
    assert job["status"] == "active", (str(held.kind), job["error"])
    return replace(held, number_id=job["phone_number_id"])


def refused(rig: Rig, numbers: Sequence[Held]) -> dict[str, Held]:
    """Has the last outside write of imports refused: by then there is most to be undone."""
    for held in numbers:
        last = "create_dispatch_rule" if held.kind.vendor is CARRIER else "route_number"
        refusal = {"step": last, "write": True, "action": "status", "status": 403, "times": None}
        rig.fault(import_id=held.import_id, **refusal)
    return {held.import_id: held for held in numbers}


def account_of(state: Mapping[str, Any], order: Order) -> Mapping[str, Any]:
    """Returns a customer's whole account; of a carrier there is nothing to see."""
    account: Mapping[str, Any] = (
        {} if order.vendor == CARRIER.name else state[order.vendor]["accounts"][order.account]
    )
    return account


def ring(rig: Rig, held: Held) -> dict[str, Any]:
    """Calls the number, as its vendor or carrier would bring the call to us."""
    if held.kind.vendor is not CARRIER:
        return rig.call(held.order.vendor, held.order.account, held.order.number)
    uri = rig.stack.environment["LIVEKIT_SIP_URI"].removeprefix("sip:")
    order = {"vendor": "sip", "number": held.order.number, "from": "+14155550199"}
    trace: dict[str, Any] = rig.control(
        "calls", {**order, "address": f"{uri};transport=tcp", **CARRIER_LOGIN}
    )
    return trace


def release(rig: Rig, held: Held) -> str:
    """Asks for a release and returns its job's id."""
    answer = rig.api.delete(held.path)
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


def journal_of(rig: Rig, job_id: str) -> list[Call]:
    """Returns every outside call of a job."""
    return [
        Call(nth=nth, step=entry["step"], operation=entry["operation"], write=entry["write"])
        for nth, entry in enumerate(rig.journal(job_id), start=1)
    ]


def not_given_back(rig: Rig, jobs: Mapping[str, Held], *, ended: str = "released") -> list[str]:
    """Returns what is wrong with numbers that jobs gave back; nothing if each is as it was."""
    wrong, state = [], rig.state()
    texts = livekit_texts(state)
    for job_id, held in jobs.items():
        job = rig.job(job_id)
        if job["status"] != ended:
            reason = job.get("undo_error") or job["error"]
            wrong.append(f"{job_id} is {job['status']}: {reason}")
            continue
        wrong += [f"{job_id} left {what}" for what in left_behind(state, texts, held)]
    return wrong


def not_whole(
    rig: Rig,
    jobs: Mapping[str, Held],
    wanted: Mapping[Kind, Mapping[str, int]],
    agents: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Returns what is wrong with numbers that are to be active; nothing if each is and rings.

    ``wanted`` says how much there is of each kind of object, and ``agents`` who answers the numbers
    of which imports, where that is not the one that the import named.
    """
    wrong, state = [], rig.state()
    texts = livekit_texts(state)
    for job_id, held in jobs.items():
        job, found = rig.job(job_id), count_made(state, texts, held)
        if job["status"] != "active":
            wrong.append(f"{job_id} is {job['status']}: {job['error']}")
            continue
        if found != wanted[held.kind]:
            wrong.append(f"{job_id} has {found} instead of {wanted[held.kind]}")
        trace, agent = ring(rig, held), agents.get(held.import_id, "receptionist")
        if (trace["outcome"], trace["agent_name"]) != ("agent", agent) or trace["problems"]:
            wrong.append(f"{job_id} does not ring: {trace}")
    return wrong


def left_behind(state: Mapping[str, Any], texts: Texts, held: Held) -> list[str]:
    """Returns what is not as it was before the import."""
    changed = differences(held.before, account_of(state, held.order))
    return [*changed, *at_livekit(texts, held)]


def livekit_texts(state: Mapping[str, Any]) -> Texts:
    """Returns all that LiveKit holds, to be searched for one import after the other."""
    kinds = ("inbound_trunks", "outbound_trunks", "dispatch_rules")
    return [
        (kind, found, json.dumps(one))
        for kind in kinds
        for found, one in state["livekit"][kind].items()
    ]


def at_livekit(texts: Texts, held: Held) -> list[str]:
    """Names everything of a number's import at LiveKit."""
    number = held.order.number.lstrip("+")
    return [f"one of {kind}" for kind, _, text in texts if held.import_id in text or number in text]


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
    account = account_of(state, held.order)
    stores = {**account, **account.get("zentrunk", {})}
    name = f"trunkline-{held.import_id.replace('_', '-')}"
    return [
        (kind or one["record_type"], found)
        for store, kind in _MADE.get(held.order.vendor, ())
        for found, one in stores[store].items()
        if name in json.dumps(one)
    ]


def lose(rig: Rig, *numbers: Held) -> None:
    """Deletes everything that imports made, as somebody does who takes it for litter."""
    state = rig.state()
    texts = livekit_texts(state)
    for held in numbers:
        where = {"vendor": held.order.vendor, "account": held.order.account}
        if str(held.kind) == "twilio-sip_trunk":
            # Twilio lets nobody delete a trunk that a number is on.
            number = {"phone_number": held.order.number, "set": {"trunk_sid": ""}}
            rig.control("edit", {**where, **number})
        for kind, found in made(state, held):
            rig.control("edit", {**where, "kind": kind, "id": found, "remove": True})
        ours = [(kind, found) for kind, found, text in texts if held.import_id in text]
        for kind, found in sorted(ours):  # rules first
            if kind == "dispatch_rules":
                rule = DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id=found)
                rig.livekit("DeleteSIPDispatchRule", rule)
            else:
                lose_trunk(rig, found)


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
    return count_made(state, livekit_texts(state), held)


def count_made(state: Mapping[str, Any], texts: Texts, held: Held) -> dict[str, int]:
    """Does the same for whoever counts for many."""
    return dict(Counter([*(kind for kind, _ in made(state, held)), *at_livekit(texts, held)]))
