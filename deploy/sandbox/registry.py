"""The vendors that the sandbox plays. A new one is a module and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.sandbox.livekit import LiveKit
from deploy.sandbox.plivo import Plivo
from deploy.sandbox.telnyx import Telnyx
from deploy.sandbox.twilio import Twilio

if TYPE_CHECKING:
    from deploy.sandbox.vendor import Vendor


def vendors() -> tuple[Vendor, ...]:
    """Every vendor, new and empty."""
    return (
        Twilio(),
        Telnyx(),
        Plivo(),
        LiveKit(),
    )
