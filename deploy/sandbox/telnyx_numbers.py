"""Phone numbers: how they are found, where their calls and messages go, how they are lost.

https://developers.telnyx.com/api-reference/phone-number-configurations
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from deploy.sandbox.telnyx_fields import Field, Fields, boolean, check_fields, text, texts
from deploy.sandbox.telnyx_render import messaging_document, number_document, voice_document
from deploy.sandbox.telnyx_state import Account, PhoneNumber, now
from deploy.sandbox.telnyx_wire import (
    PAGE_PARAMETERS,
    Context,
    not_found,
    ok,
    page,
    refused,
    refused_query,
)
from deploy.sandbox.vendor import Route

if TYPE_CHECKING:
    from deploy.sandbox.telnyx_wire import Operation
    from deploy.sandbox.vendor import Answer

E164: Final = re.compile(r"\+[1-9][0-9]{1,14}")
_MIN_DIGITS: Final = 3


def _any_text(pointer: str, value: object) -> None:
    """A text that may be empty."""
    if value:
        text(pointer, value)


#: Fields of a PATCH; the vendor's others point at resources that are not modelled.
_FIELDS: Final[Fields] = MappingProxyType(
    {
        "connection_id": Field(text, nullable=True),
        "customer_reference": Field(_any_text, nullable=True),
        "hd_voice_enabled": Field(boolean),
        "tags": Field(texts),
    }
)
_MESSAGING_FIELDS: Final[Fields] = MappingProxyType(
    {
        "messaging_profile_id": Field(_any_text, nullable=True),
        "messaging_product": Field(text, nullable=True),
        "tags": Field(texts),
    }
)
#: List filters next to `filter[phone_number]`.
_FILTERS: Final[Mapping[str, Callable[[PhoneNumber, str], bool]]] = MappingProxyType(
    {
        "filter[status]": lambda number, wanted: number.status == wanted,
        "filter[connection_id]": lambda number, wanted: number.connection_id == wanted,
        "filter[country_iso_alpha2]": lambda number, wanted: (
            number.country_iso_alpha2 in wanted.split(",")
        ),
        "filter[customer_reference]": lambda number, wanted: number.customer_reference == wanted,
        "filter[number_type][eq]": lambda number, wanted: number.phone_number_type == wanted,
        "filter[tag]": lambda number, wanted: wanted in number.tags,
    }
)


def index(context: Context) -> Answer:
    """Lists numbers, newest first."""
    query = context.query
    if unknown := query.keys() - _FILTERS.keys() - PAGE_PARAMETERS - {"filter[phone_number]"}:
        raise refused_query(min(unknown), "unknown query parameter")
    found = _matching(context.account, query.get("filter[phone_number]"))
    for name in _FILTERS.keys() & query.keys():
        found = [number for number in found if _FILTERS[name](number, query[name])]
    return page(query, found[::-1], lambda number: number_document(context.account, number))


def retrieve(context: Context) -> Answer:
    """One number."""
    return ok(number_document(context.account, _number(context)))


def update(context: Context) -> Answer:
    """Changes what is sent."""
    number = _editable(context)
    change(context.account, number, context.body)
    return ok(number_document(context.account, number))


def delete(context: Context) -> Answer:
    """Gives the number away for good, whoever calls this.

    It is here so that a test can prove that nobody does.
    """
    number = _number(context)
    if number.deletion_lock_enabled:
        raise refused("/base", "deletion lock is enabled for this number")
    document = {**number_document(context.account, number), "status": "deleted"}
    context.account.remove_number(number)
    context.account.released_numbers.append(number.phone_number)
    context.state.taken_numbers.discard(number.phone_number)
    return ok(document)


def verify_ownership(context: Context) -> Answer:
    """Which of the numbers the account has "in an editable state", compared exactly.

    Which states are editable is not documented; here `active` is, and no other.
    """
    match context.body:
        case {"phone_numbers": [*wanted]} if wanted and len(context.body) == 1:
            pass
        case _:
            raise refused("/phone_numbers", "phone_numbers can't be blank", "10004")
    found: list[dict[str, object]] = []
    missing: list[str] = []
    for position, item in enumerate(wanted):
        if not isinstance(item, str) or E164.fullmatch(item) is None:
            raise refused(f"/phone_numbers/{position}", "", "10016")
        number = context.account.number_by_phone(item)
        if number is not None and number.status == "active":
            found.append({"id": number.id, "number_val_e164": number.phone_number})
        else:
            missing.append(item)
    return ok({"record_type": "number_ownership", "found": found, "not_found": missing})


def list_messaging(context: Context) -> Answer:
    """Messaging settings of numbers, those named exactly or all of them."""
    query = context.query
    name = "filter[phone_number]"
    if unknown := query.keys() - PAGE_PARAMETERS - {name}:
        raise refused_query(min(unknown), "unknown query parameter")
    wanted = query[name].split(",") if name in query else None
    found = [
        item
        for item in context.account.numbers.values()
        if wanted is None or item.phone_number in wanted
    ]
    return page(query, found[::-1], messaging_document)


def retrieve_messaging(context: Context) -> Answer:
    """A number's messaging settings."""
    return ok(messaging_document(_number(context)))


def update_messaging(context: Context) -> Answer:
    """Changes them: an empty profile id unassigns, null or nothing keeps."""
    number = _editable(context)
    change_messaging(context.account, number, context.body)
    return ok(messaging_document(number))


def index_messaging(context: Context) -> Answer:
    """The numbers of a messaging profile."""
    account, profile = context.account, context.ids["id"]
    if profile not in account.messaging_profiles:
        raise not_found()
    users = [item for item in account.numbers.values() if item.messaging_profile_id == profile]
    return page(context.query, users, messaging_document)


def retrieve_voice(context: Context) -> Answer:
    """A number's voice settings. Changing them by API is not modelled: only the customer does."""
    return ok(voice_document(_number(context)))


def change(account: Account, number: PhoneNumber, body: Mapping[str, object]) -> None:
    """Applies a PATCH, all or nothing. Raises TelnyxError.

    Whether null or an empty text takes a number off its connection is not documented. Here neither
    does and both are refused, unless the account's rules say that null does.
    """
    check_fields(_FIELDS, body)
    if "connection_id" in body:
        connection_id = body["connection_id"]
        if connection_id is None and not account.rules.null_unassigns:
            raise refused("/connection_id", "connection_id can't be null")
        if connection_id is not None and connection_id not in account.connections:
            raise refused("/connection_id", "", "10017")
    for name, value in body.items():
        setattr(number, name, value)
    number.updated = now()


def change_messaging(account: Account, number: PhoneNumber, body: Mapping[str, object]) -> None:
    """Applies a PATCH to the messaging settings, all or nothing. Raises TelnyxError."""
    check_fields(_MESSAGING_FIELDS, body)
    given = {name: value for name, value in body.items() if value is not None}
    profile = given.get("messaging_profile_id")
    if profile and profile not in account.messaging_profiles:
        raise refused("/messaging_profile_id", "", "10017")
    if profile and not number.sms:
        # Not documented.
        raise refused("/messaging_profile_id", "phone number does not support messaging")
    if profile == "":
        given["messaging_profile_id"] = None
    for name, value in given.items():
        setattr(number, name, value)
    number.updated = now()


def _matching(account: Account, digits: str | None) -> list[PhoneNumber]:
    """A part of the number, in digits: "non-numerical characters will result in no values"."""
    if digits is None:
        return list(account.numbers.values())
    if not (digits.isascii() and digits.isdecimal()):
        return []
    if len(digits) < _MIN_DIGITS:
        # "Requires at least three digits"; whether that is a refusal is not said.
        raise refused_query("filter[phone_number]", "requires at least three digits")
    return list(account.numbers_containing(digits))


def _number(context: Context) -> PhoneNumber:
    number = context.account.numbers.get(context.ids["id"])
    if number is None:
        raise not_found()
    return number


def _editable(context: Context) -> PhoneNumber:
    """The number, if it may be changed; that only an active one may is assumed."""
    number = _number(context)
    if number.status != "active":
        raise refused("/status", f"phone number is {number.status}", "10001")
    return number


_NUMBERS: Final = "/v2/phone_numbers"

ROUTES: Final[tuple[Route[Operation], ...]] = (
    Route("telnyx.phone_numbers.list", "GET", _NUMBERS, index),
    # Before what takes any segment for an id.
    Route("telnyx.phone_numbers.messaging.list", "GET", f"{_NUMBERS}/messaging", list_messaging),
    Route("telnyx.phone_numbers.retrieve", "GET", f"{_NUMBERS}/{{id}}", retrieve),
    Route("telnyx.phone_numbers.update", "PATCH", f"{_NUMBERS}/{{id}}", update),
    Route("telnyx.phone_numbers.delete", "DELETE", f"{_NUMBERS}/{{id}}", delete),
    Route(
        "telnyx.phone_numbers.actions.verify_ownership",
        "POST",
        f"{_NUMBERS}/actions/verify_ownership",
        verify_ownership,
    ),
    Route(
        "telnyx.phone_numbers.messaging.retrieve",
        "GET",
        f"{_NUMBERS}/{{id}}/messaging",
        retrieve_messaging,
    ),
    Route(
        "telnyx.phone_numbers.messaging.update",
        "PATCH",
        f"{_NUMBERS}/{{id}}/messaging",
        update_messaging,
    ),
    Route(
        "telnyx.messaging_profiles.list_phone_numbers",
        "GET",
        "/v2/messaging_profiles/{id}/phone_numbers",
        index_messaging,
    ),
    Route("telnyx.phone_numbers.voice.retrieve", "GET", f"{_NUMBERS}/{{id}}/voice", retrieve_voice),
)
#: A POST that asks and changes nothing.
READING_POST: Final = "telnyx.phone_numbers.actions.verify_ownership"
