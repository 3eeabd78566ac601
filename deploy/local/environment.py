"""The environment of every child process: what the caller's may and may not pass on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Literal

from deploy.local.processes import StackError

if TYPE_CHECKING:
    from collections.abc import Mapping

Profile = Literal["sandbox", "live"]

#: What the real vendors need and nobody but the caller knows.
LIVE_REQUIRED: Final = {
    "LIVEKIT_URL": "the LiveKit server, such as wss://PROJECT.livekit.cloud",
    "LIVEKIT_API_KEY": "an API key of that LiveKit project",
    "LIVEKIT_API_SECRET": "the secret of that key",
    "LIVEKIT_SIP_URI": "the project's SIP URI, such as sip:PROJECT.sip.livekit.cloud",
    "TRUNKLINE_PUBLIC_BASE_URL": "the https:// address at which providers reach this API",
}

#: A sandbox is there to be hammered, with one key. What it costs to count is still paid.
SANDBOX_ALLOWANCES: Final = {
    f"TRUNKLINE_{name}_PER_MINUTE": "1000000" for name in ("IMPORTS", "BATCHES", "LOOKS")
}

# A key of a real account in the caller's shell must never reach a run against the sandbox, nor may
# settings of an installed Trunkline.
_FOREIGN_IN_SANDBOX = ("TWILIO_", "TELNYX_", "PLIVO_", "SIP_", "LIVEKIT_", "TRUNKLINE_", "OTEL_")
# These override what the stack sets: Celery prefers CELERY_BROKER_URL to its configuration, Flower
# takes any option from FLOWER_*, libpq any connection parameter from PG*.
_FOREIGN_ALWAYS = ("CELERY_", "FLOWER_", "PG")


def child_environment(profile: Profile, ambient: Mapping[str, str]) -> dict[str, str]:
    """Returns what children inherit.

    Raises:
        StackError: the live profile lacks a setting; the message names all that are missing.
    """
    foreign = _FOREIGN_ALWAYS + (_FOREIGN_IN_SANDBOX if profile == "sandbox" else ())
    inherited = {key: value for key, value in ambient.items() if not key.startswith(foreign)}
    if profile == "live":
        _require_live(ambient)
    # Loopback never goes through a proxy, whatever the caller's network needs.
    for key in ("NO_PROXY", "no_proxy"):
        inherited[key] = ",".join(filter(None, [inherited.get(key), "127.0.0.1", "localhost"]))
    inherited["PYTHONUNBUFFERED"] = "1"
    inherited["PATH"] = ambient.get("PATH", os.defpath)
    return inherited


def sandbox_vendors(sandbox_url: str, livekit_secret: str) -> dict[str, str]:
    """Returns the settings that point every vendor at the sandbox."""
    return {
        "TWILIO_API_BASE_URL": f"{sandbox_url}/twilio",
        "TWILIO_TRUNKING_BASE_URL": f"{sandbox_url}/twilio-trunking",
        "TWILIO_NUMBERS_BASE_URL": f"{sandbox_url}/twilio-numbers",
        "TWILIO_MESSAGING_BASE_URL": f"{sandbox_url}/twilio-messaging",
        "TWILIO_ROUTES_BASE_URL": f"{sandbox_url}/twilio-routes",
        "PLIVO_API_BASE_URL": f"{sandbox_url}/plivo",
        "TELNYX_API_BASE_URL": f"{sandbox_url}/telnyx/v2",
        "LIVEKIT_URL": f"{sandbox_url}/livekit",
        "LIVEKIT_API_KEY": "APIsandbox",
        "LIVEKIT_API_SECRET": livekit_secret,
        "LIVEKIT_SIP_URI": "sip:sandbox.sip.livekit.example",
    }


def _require_live(ambient: Mapping[str, str]) -> None:
    missing = [name for name in LIVE_REQUIRED if not ambient.get(name)]
    if missing:
        lines = "\n".join(f"  {name}: {LIVE_REQUIRED[name]}" for name in missing)
        raise StackError(
            f"The live profile uses the real vendors and needs in the environment:\n{lines}\n"
            "What to do: export them and run again, or leave out PROFILE=live for the sandbox"
        )
