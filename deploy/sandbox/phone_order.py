"""What a test orders: a call or a message to a number of an account."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

VendorName = Literal["twilio", "telnyx", "plivo"]


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    account: str = ""
    #: The number that is called or texted, as E.164.
    number: Annotated[str, Field(pattern=r"^\+[1-9][0-9]{1,14}$")]
    sender: Annotated[str, Field(alias="from", pattern=r"^\+[1-9][0-9]{1,14}$")]
    #: How often each callback that the vendor sends by itself is delivered.
    repeat: Annotated[int, Field(ge=1, le=5)] = 1


class CallOrder(_Order):
    """An inbound call."""

    #: `sip` is a carrier without an API: `address` says where it sends its calls.
    vendor: VendorName | Literal["sip"]
    #: False: nobody answers, whoever is online.
    answered: bool = True
    #: The caller's STIR/SHAKEN attestation, where the vendor tells it.
    attestation: Literal["A", "B", "C"] | None = None
    #: How long an agent talks.
    duration: Annotated[int, Field(ge=1, le=14_400)] = 5
    #: How long a voicemail is; 0 is that nobody speaks.
    message_seconds: Annotated[int, Field(ge=0, le=3600)] = 7
    #: What the caller types if LiveKit asks for a PIN, then #; nothing if null.
    pin: str | None = None
    #: Where the carrier's signalling comes from; null is an address of its published ranges.
    source: IPv4Address | None = None
    #: For `sip`: host[:port], with `;transport=`; and the carrier's login if it has one.
    address: str = ""
    username: str = ""
    password: str = ""


class MessageOrder(_Order):
    """An incoming SMS."""

    vendor: VendorName
    text: str = ""
    #: Plivo's pages on voice and on messaging name different signatures: which of them it sends.
    signatures: tuple[Literal["v2", "v3"], ...] = ("v2", "v3")
