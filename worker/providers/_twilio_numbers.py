"""What Twilio says of a number, and what it means to us; no call is made here.

https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qs, urlsplit

from worker.domain.errors import (
    InvalidPhoneNumber,
    InvalidRequest,
    NumberNotActive,
    NumberNotVoiceCapable,
    PermanentError,
)
from worker.domain.values import E164, NOWHERE, Fields, ListedNumber, Routing, Target
from worker.providers._twilio_wire import Sdk, real, text

#: Part of a routing → its fields, under the names that the API gives and takes.
PARTS: Final = MappingProxyType(
    {
        "voice": (
            "voice_url",
            "voice_method",
            "voice_fallback_url",
            "voice_fallback_method",
            "voice_application_sid",
            "voice_caller_id_lookup",
            "voice_receive_mode",
            "trunk_sid",
        ),
        "sms": (
            "sms_url",
            "sms_method",
            "sms_fallback_url",
            "sms_fallback_method",
            "sms_application_sid",
        ),
        "status": ("status_callback", "status_callback_method"),
    }
)
#: Part → what can receive it, the field that wins first. Pure URLs come last.
_PRECEDENCE: Final = MappingProxyType(
    {
        "voice": (
            ("trunk", "trunk_sid"),
            ("application", "voice_application_sid"),
            ("url", "voice_url"),
        ),
        "sms": (("application", "sms_application_sid"), ("url", "sms_url")),
        "status": (("url", "status_callback"),),
    }
)
assert _PRECEDENCE.keys() == PARTS.keys(), "a part has no precedence"
#: What a new number points at until its owner decides.
_DEMO_URLS: Final = ("https://demo.twilio.com/", "http://demo.twilio.com/")
#: Fields that always hold a value: the API refuses to clear them.
NEVER_EMPTY: Final = re.compile(r".*_(method|mode|lookup)")
#: Beyond "in-use" the values of a number's status are not published; these words mean "not now".
_INACTIVE: Final = re.compile(r"pending|porting|inactive|suspend|release|fail", re.IGNORECASE)
#: What names a page: its number and the token that the page before it gave out.
_PAGE: Final = re.compile(r"([0-9]{1,9})\.([!-~]{1,200})")


def target_of(part: str, fields: Fields) -> Target:
    """Tells which field wins: a trunk over an application over a URL."""
    for kind, name in _PRECEDENCE[part]:
        value = fields.get(name, "")
        if value and not value.startswith(_DEMO_URLS):
            return Target(kind=kind, value=value)
    return NOWHERE


def refusal_of(row: Sdk) -> PermanentError | None:
    """Returns why a number cannot be imported as it is."""
    if _INACTIVE.search(text(row.status)):
        return NumberNotActive()
    if not is_able(row, "voice"):
        return NumberNotVoiceCapable()
    if row.voice_receive_mode == "fax":
        # Whatever the voice settings say, calls go to a product that is switched off:
        # https://www.twilio.com/docs/api/errors/34005
        return NumberNotVoiceCapable(
            "This number is set to receive faxes. Set it to accept voice calls at Twilio, then "
            "import it."
        )
    return None


def is_able(row: Sdk, to: str) -> bool:
    """Whether the number takes "voice" or "sms"."""
    # The case of the keys varies from resource to resource.
    return any(value for key, value in (row.capabilities or {}).items() if key.lower() == to)


def _country(number: str) -> str | None:
    try:
        return E164.parse(number).region
    except InvalidPhoneNumber:
        return None


def listed(row: Sdk) -> ListedNumber:
    """Returns a number of a list, and what stands against importing it."""
    number = str(row.phone_number)
    return ListedNumber(
        id=str(real(row).sid),
        phone_number=number,
        country=_country(number),
        voice=is_able(row, "voice"),
        sms=is_able(row, "sms"),
        target=target_of("voice", routing_of(row).parts["voice"]),
        refusal=refusal_of(row),
    )


def page_after(following: str | None) -> Mapping[str, object]:
    """Returns what asks for the page that :func:`following_of` named; the first for None.

    Raises:
        InvalidRequest: it names none.
    """
    if following is None:
        return {}
    found = _PAGE.fullmatch(following)
    if found is None:
        raise no_such_page()
    return {"page_number": int(found[1]), "page_token": found[2]}


def following_of(next_page_url: str | None) -> str | None:
    """Returns what names the next page for :func:`page_after`; None if there is none."""
    if not next_page_url:
        return None
    query = parse_qs(urlsplit(next_page_url).query)
    return f"{query['Page'][0]}.{query['PageToken'][0]}"


def no_such_page() -> InvalidRequest:
    """Returns the error for a page that was never named."""
    return InvalidRequest("There is no such page. Start again from the first one.")


def routing_of(row: Sdk) -> Routing:
    """Returns all that decides where calls, messages and reports go."""
    return Routing(
        parts={
            part: {name: text(getattr(row, name)) for name in names}
            for part, names in PARTS.items()
        }
    )
