"""What an import sets on each object that it makes at Plivo, and how what is found is shown.

The one source of what is sent, what a preflight shows and what a diagnosis expects. Pure: nothing
is sent from here. Left to the senders are passwords and ids of each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from worker.domain.values import CallbackUrls, Fields, Objects, RoutingMode, TrunkPlan
from worker.providers._plivo_objects import KINDS, Kind
from worker.providers._plivo_wire import Sdk

#: Settings of an object in Plivo's words, as its JSON has them.
Settings: TypeAlias = Mapping[str, object]

_OURS: Final = "ours"


def application(urls: CallbackUrls, *, sms: bool) -> Settings:
    """Returns the URLs of the application, which calls and messages go to."""
    settings = {
        "answer_url": urls.voice,
        "answer_method": "POST",
        "hangup_url": urls.status,
        "hangup_method": "POST",
    }
    if sms:
        settings |= {"message_url": urls.sms, "message_method": "POST"}
    return settings


def trunking(plan: TrunkPlan) -> Mapping[str, Settings]:
    """Returns the settings of the objects of Zentrunk, each after those that it refers to."""
    on = {"trunk_status": "enabled", "secure": plan.secure}
    settings: dict[str, Settings] = {}
    if plan.origination_host is not None:
        transport = "tls" if plan.secure else "tcp"
        uri: dict[str, object] = {
            "uri": f"{plan.origination_host};transport={transport}",
            "authentication_needed": plan.origination_login is not None,
        }
        if plan.origination_login is not None:
            uri["username"] = plan.origination_login.username
        settings |= {"origination_uri": uri, "inbound_trunk": on}
    if plan.termination is not None:
        settings |= {
            "credential": {"username": plan.termination.username},
            "outbound_trunk": on,
        }
    return settings


def planned(
    mode: RoutingMode, urls: CallbackUrls, trunk: TrunkPlan | None, *, sms: bool
) -> Mapping[str, Fields]:
    """Returns what an import sets, as :func:`found` shows it."""
    settings: dict[str, Settings] = {}
    if mode is RoutingMode.WEBHOOK:
        # "enabled" is no parameter: Plivo makes every application so.
        settings["application"] = {**application(urls, sms=sms), "enabled": True}
    if trunk is not None:
        settings |= trunking(trunk)
    return {
        key: {
            **{name: _shown(value) for name, value in fields.items()},
            **dict.fromkeys(KINDS[key].refers, _OURS),
        }
        for key, fields in settings.items()
    }


def found(kind: Kind, row: Sdk, objects: Objects) -> Fields:
    """Returns what the SDK's object shows; what it refers to as "ours", "another" or "none"."""
    fields = {name: _shown(getattr(row, name, None)) for name in kind.shows}
    for name, key in kind.refers.items():
        id_ = getattr(row, name, None)
        another = _OURS if id_ == objects.get(key) else "another"
        fields[name] = another if id_ else "none"
    return fields


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
