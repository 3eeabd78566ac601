from __future__ import annotations

import pytest

from deploy.local.environment import LIVE_REQUIRED, child_environment
from deploy.local.processes import StackError

AMBIENT = {
    "PATH": "/bin",
    "HOME": "/home/somebody",
    "TWILIO_AUTH_TOKEN": "a",
    "TELNYX_API_KEY": "b",
    "PLIVO_AUTH_ID": "c",
    "LIVEKIT_API_SECRET": "d",
    "TRUNKLINE_DATABASE_URL": "e",
    "CELERY_BROKER_URL": "f",
    "FLOWER_UNAUTHENTICATED_API": "g",
    "PGOPTIONS": "h",
}


def test_sandbox_children_inherit_nothing_of_a_vendor() -> None:
    inherited = child_environment("sandbox", AMBIENT)
    assert inherited["HOME"] == "/home/somebody"
    assert not set(inherited.values()) & set("abcdefgh")


def test_live_children_inherit_vendors_but_no_hidden_overrides() -> None:
    inherited = child_environment("live", AMBIENT | dict.fromkeys(LIVE_REQUIRED, "set"))
    assert inherited["LIVEKIT_URL"] == "set"
    assert inherited["TWILIO_AUTH_TOKEN"] == "a"
    assert not set(inherited.values()) & set("fgh")


def test_live_names_everything_that_is_missing() -> None:
    with pytest.raises(StackError) as caught:
        child_environment("live", AMBIENT | {"LIVEKIT_URL": ""})
    named = {name for name in LIVE_REQUIRED if name in str(caught.value)}
    assert named == LIVE_REQUIRED.keys() - {"LIVEKIT_API_SECRET"}


def test_loopback_never_goes_through_a_proxy() -> None:
    inherited = child_environment("sandbox", {"NO_PROXY": "corp", "HTTPS_PROXY": "http://proxy"})
    assert inherited["NO_PROXY"] == "corp,127.0.0.1,localhost"
    assert inherited["no_proxy"] == "127.0.0.1,localhost"
    assert inherited["HTTPS_PROXY"] == "http://proxy"
