"""Accounts and requests of a plan, with a secret that can be recognised in every place for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.chaos.plan import Plan, Planned
from tests.vendors import VENDORS

#: What every planted secret begins with; nothing else does.
MARKER: Final = "sandbox-planted"
#: The import's phone number is in nobody's account.
_NOT_OWNED: Final = "+1312556{:04}"
#: How each vendor refuses to have a number's voice moved, for good. The first is Twilio's own code
#: for a bad URL; the others are answered as bad requests are.
_REFUSALS: Final[Mapping[str, Mapping[str, Any]]] = {
    "twilio": {"status": 400, "code": 21402},
    "telnyx": {"status": 422},
    "plivo": {"status": 400},
}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A planned import, with its request and where to look for what it does."""

    planned: Planned
    number: str
    #: In the sandbox's state; "" for a SIP carrier.
    account: str
    body: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Its Idempotency-Key."""
        return f"chaos-{self.planned.serial}"

    @property
    def refusal(self) -> dict[str, Any] | None:
        """The fault by which the vendor refuses to move voice, if it is to."""
        if self.planned.fate != "refused":
            return None
        # Not the undo, whose step has another name.
        match = {"account": self.account, "step": "route_number", "write": True}
        answer = _REFUSALS[self.planned.provider]
        return {"match": match, "action": "status", "times": None, **answer}


def secret(what: str, serial: int) -> str:
    """Returns a planted secret."""
    return f"{MARKER}-{what}-{serial:05}"


def prepare(
    plan: Plan, agents: Mapping[str, str], callback_url: str
) -> tuple[list[Prepared], dict[str, dict[str, list[Any]]]]:
    """Returns every import of a plan, the quiet ones first, and the seed of their accounts.

    ``agents`` are the ids of the agents `day` and `night`.
    """
    planned = (*plan.quiet, *plan.imports)
    seeds: dict[str, dict[str, list[Any]]] = {}
    accounts: dict[int, tuple[dict[str, Any], dict[str, Any], str]] = {}
    common: dict[str, Any] = {"pin": plan.pin, "agents": agents, "callback_url": callback_url}
    prepared = []
    for one in planned:
        if one.provider == "sip":
            number = f"+44207946{one.serial:04}"
            prepared.append(_prepared(one, number=number, account="", credentials=None, **common))
            continue
        if one.shares_with not in accounts:
            vendor = next(vendor for vendor in VENDORS if vendor.name == one.provider)
            made = vendor.account(
                one.shares_with,
                secret=secret("token", one.shares_with),
                query=f"?key={secret('query', one.shares_with)}",
            )
            accounts[one.shares_with] = made
            seeds.setdefault(one.provider, {"accounts": []})["accounts"].append(made[0])
            if one.provider == "twilio":
                _dress(made[0]["numbers"][0], one.shares_with)
        account, credentials, name = accounts[one.shares_with]
        number = f"+1312555{one.serial:04}"
        if one.shares_with != one.serial:
            _add_number(one.provider, account, number)
        if one.fate == "wrong_credentials":
            given = "api_key" if one.provider == "telnyx" else "auth_token"
            credentials = {**credentials, given: secret("wrong", one.serial)}
        if one.fate == "not_owned":
            number = _NOT_OWNED.format(one.serial)
        found = _prepared(one, number=number, account=name, credentials=credentials, **common)
        prepared.append(found)
    return prepared, seeds


def _prepared(
    one: Planned,
    *,
    pin: str,
    agents: Mapping[str, str],
    callback_url: str,
    number: str,
    account: str,
    credentials: Mapping[str, Any] | None,
) -> Prepared:
    body: dict[str, Any] = {
        "phone_number": number,
        "provider": one.provider,
        "routing_mode": one.mode,
        "replace_existing_routing": one.fate != "in_use",
        "agent_id": agents["day"],
    }
    if credentials is not None:
        body["credentials"] = credentials
    if one.provider == "sip" or one.shape == "login":
        body["sip"] = {
            "address": "sip.example.com",
            "username": f"carrier-{one.serial}",
            "password": secret("sip", one.serial),
        }
    if one.shape == "login":
        body["inbound"] = {"pin": pin}
    elif one.provider != "sip":
        body["sms_enabled"] = True
        if one.mode == "webhook":
            body["inbound"] = {"fallback_agent_id": agents["night"]}
    if one.callback:
        body["callback_url"] = f"{callback_url}?key={secret('callback', one.serial)}"
    return Prepared(planned=one, number=number, account=account, body=body)


def _dress(number: dict[str, Any], serial: int) -> None:
    """Gives a Twilio number all the settings that an import may touch and an undo must put back."""
    query = f"?key={secret('query', serial)}"
    number |= {
        "voice_method": "GET",
        "voice_fallback_url": f"https://pbx.example.com/fallback{query}",
        "status_callback": f"https://pbx.example.com/status{query}",
        "sms_url": f"https://pbx.example.com/sms{query}",
    }


def _add_number(provider: str, account: dict[str, Any], number: str) -> None:
    """Gives an account another number, routed as its first."""
    first = account["numbers"][0]
    name = "number" if provider == "plivo" else "phone_number"
    account["numbers"].append(
        {**first, name: number.lstrip("+") if provider == "plivo" else number}
    )
