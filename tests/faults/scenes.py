"""What the fault tests share: whole imports, the calls they make, and what must be true after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.rig import Customer, Outside, Rig


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One kind of import, and how it must end."""

    mode: str
    fails: bool

    def __str__(self) -> str:
        return f"{self.mode}-{'fails' if self.fails else 'succeeds'}"


@dataclass(frozen=True, kw_only=True)
class Call:
    """One outside call of a scene, by its place in the undisturbed run."""

    nth: int
    step: str
    operation: str
    write: bool

    def __str__(self) -> str:
        return f"{self.nth}:{self.step}:{self.operation}"


#: Ways in which a write's answer can be lost → the fault that does it.
LOSSES: Final[Mapping[str, Mapping[str, Any]]] = {
    "cut after it was applied": {"action": "lost"},
    "500 after it was applied": {"action": "lost_status", "status": 500},
    "applied when the client has given up": {"action": "delay", "seconds": 2.0},
    "cut before it was applied": {"action": "cut"},
    "garbage instead": {"action": "garbage"},
    "503 instead": {"action": "status", "status": 503},
}


def verdict(rig: Rig, scene: Scene, customers: Mapping[str, Customer]) -> list[str]:
    """Returns what is wrong with imports that have all ended; nothing if the promises were kept.

    An import whose refused write was applied after all, because another fault met it first, may end
    active: then it must have one of everything, as if nothing had happened.
    """
    wrong = []
    allowed = {"failed", "active"} if scene.fails else {"active"}
    outside = rig.outside(customers.values())
    for import_id, customer in customers.items():
        job, found = rig.job(import_id), outside[customer.number]
        if job["status"] not in allowed:
            wrong.append(f"{import_id} is {job['status']}: {job['error']} {job.get('undo_error')}")
            continue
        active = job["status"] == "active"
        if found.made != dict.fromkeys(found.made, int(active)):
            wrong.append(f"{import_id} is {job['status']} and left {found.made}")
        faults = _ours(scene, customer, found) if active else _restored(customer, found)
        wrong += [f"{import_id} is {job['status']} and {fault}" for fault in faults]
    return wrong


def _restored(customer: Customer, found: Outside) -> list[str]:
    if found.account["released_numbers"]:
        return ["gave the customer's number away"]
    number = found.account["numbers"][customer.number]
    return [
        f"{name} is {number[name]!r}, was {value!r}"
        for name, value in ORIGINAL.items()
        if (number[name] or "") != value
    ]


def _ours(scene: Scene, customer: Customer, found: Outside) -> list[str]:
    number = found.account["numbers"][customer.number]
    if scene.mode == "webhook":
        ours = "/callbacks/twilio/voice/" in number["voice_url"] and not number["trunk_sid"]
        return [] if ours else [f"voice goes to {number['voice_url']}"]
    trunks = list(found.account["trunks"])
    return [] if [number["trunk_sid"]] == trunks else [f"voice goes to {number['trunk_sid']}"]


#: The seeded number's routing, as the vendor shows it.
ORIGINAL = {
    "voice_url": "https://pbx.example.com/voice?key=sandbox-planted-query",
    "voice_method": "GET",
    "voice_fallback_url": "https://pbx.example.com/fallback",
    "voice_fallback_method": "POST",
    "voice_application_sid": "",
    "trunk_sid": "",
    "status_callback": "https://pbx.example.com/status",
    "status_callback_method": "POST",
    "sms_url": "https://pbx.example.com/sms",
    "sms_method": "POST",
}


def faults_of(wrong: Sequence[str], names: Mapping[str, Any]) -> str:
    """Joins what is wrong, with the name of the call that was hurt."""
    lines = []
    for fault in wrong:
        import_id = fault.split(" ", 1)[0]
        lines.append(f"{names.get(import_id, '?')}: {fault}")
    return "\n".join(lines)
