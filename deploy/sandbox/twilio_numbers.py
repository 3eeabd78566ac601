"""IncomingPhoneNumbers: the precedence of trunk, application and URL, and how numbers are found.

https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from deploy.sandbox.twilio_fields import HOOK_PARAMETERS, Parameters, checked, one_of, sid
from deploy.sandbox.twilio_render import number_document
from deploy.sandbox.twilio_wire import (
    PAGE_PARAMETERS,
    Context,
    deleted,
    ok,
    page_2010,
    refused,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from deploy.sandbox.twilio_state import Account, PhoneNumber
    from deploy.sandbox.vendor import Answer

PARAMETERS: Final[Parameters] = MappingProxyType(
    {
        **HOOK_PARAMETERS,
        "VoiceApplicationSid": ("voice_application_sid", sid("AP")),
        "SmsApplicationSid": ("sms_application_sid", sid("AP")),
        "TrunkSid": ("trunk_sid", sid("TK")),
        "VoiceReceiveMode": ("voice_receive_mode", one_of("voice", "fax")),
        "EmergencyStatus": ("emergency_status", one_of("Active", "Inactive")),
        "EmergencyAddressSid": ("emergency_address_sid", sid("AD")),
        "AddressSid": ("address_sid", sid("AD")),
        "BundleSid": ("bundle_sid", sid("BU")),
        "IdentitySid": ("identity_sid", sid("RI")),
    }
)

#: List filters that compare the whole value.
_EXACT: Final[Mapping[str, Callable[[PhoneNumber], str]]] = MappingProxyType(
    {
        "FriendlyName": lambda number: number.friendly_name,
        "Origin": lambda number: number.origin,
        "Beta": lambda number: str(number.beta).lower(),
    }
)
#: Digits, a leading plus, and `*` for any digit.
_NUMBER_FILTER: Final = re.compile(r"[+0-9*]+")


def fetch(context: Context) -> Answer:
    """One number."""
    return ok(number_document(context.account, _number(context)))


def update(context: Context) -> Answer:
    """Changes settings; every field that is not sent stays as it is."""
    number = _number(context)
    form = dict(context.form)
    if form.pop("AccountSid", context.account.sid) != context.account.sid:
        # Moving a number to another account needs the parent account; not modelled.
        raise refused(21474, "API User must be the parent account to transfer phone numbers.")
    change(context.account, number, form)
    return ok(number_document(context.account, number))


def delete(context: Context) -> Answer:
    """Releases the number: it is gone for good, whoever calls this.

    It is here so that a test can prove that nobody does.
    """
    number = _number(context)
    context.account.remove_number(number)
    context.account.released_numbers.append(number.phone_number)
    context.state.taken_numbers.discard(number.phone_number)
    return deleted()


def create(context: Context) -> Answer:
    """Buys a number. Nothing is for sale here: an import must only find and update."""
    wanted = context.form.get("PhoneNumber", "")
    raise refused(21422, f"{wanted} is not available.")


def index(context: Context) -> Answer:
    """Lists numbers. `PhoneNumber` matches parts of numbers, `*` any digit; others are exact."""
    query = context.query
    if unknown := query.keys() - _EXACT.keys() - {"PhoneNumber"} - PAGE_PARAMETERS:
        raise refused(20001, f"Unknown parameters: {', '.join(sorted(unknown))}")
    found = _matching(context.account, query.get("PhoneNumber"))
    for name in _EXACT.keys() & query.keys():
        found = [number for number in found if _EXACT[name](number) == query[name]]
    return page_2010(
        context,
        "incoming_phone_numbers",
        found,
        lambda number: number.sid,
        lambda number: number_document(context.account, number),
    )


def change(account: Account, number: PhoneNumber, form: Mapping[str, str]) -> None:
    """Applies parameters under the vendor's rules, all or none. Raises TwilioError.

    A trunk or an application takes precedence over the voice URL, which stays stored. Setting a
    trunk deletes the voice application and the other way round; an empty string clears.
    """
    values = checked(form, PARAMETERS)
    _refuse_contradictions(account, number, values)
    if values.get("trunk_sid"):
        values["voice_application_sid"] = ""
    elif values.get("voice_application_sid"):
        values["trunk_sid"] = ""
    for attribute, value in values.items():
        setattr(number, attribute, value)
    number.touch()


def _refuse_contradictions(
    account: Account, number: PhoneNumber, values: Mapping[str, str | bool | int]
) -> None:
    if values.get("trunk_sid") and values.get("voice_application_sid"):
        # Which of the two would win is not documented.
        raise refused(20001, "TrunkSid and VoiceApplicationSid cannot both be set")
    for attribute in ("voice_application_sid", "sms_application_sid"):
        if (wanted := values.get(attribute)) and wanted not in account.applications:
            # https://www.twilio.com/docs/api/errors/22108
            raise refused(22108, f"Invalid Application SID {wanted}")
    if (trunk := values.get("trunk_sid")) and trunk not in account.trunks:
        # The code for a number's unknown trunk is not documented.
        raise refused(21245, f"Trunk {trunk} was not found")
    if trunk and not number.capabilities.get("voice"):
        # Not documented either.
        raise refused(21245, f"Phone number {number.sid} is not voice-capable")
    if not number.capabilities.get("sms") and (
        values.get("sms_url") or values.get("sms_application_sid")
    ):
        raise refused(21407, "This Phone Number type does not support SMS")
    for kind, code in (("voice", 21405), ("sms", 21406)):
        names = (f"{kind}_url", f"{kind}_fallback_url")
        # "You cannot set a fallback URL without specifying a primary URL" (/docs/api/errors/21405).
        # Whether the primary may be cleared while the fallback stays is not documented; refused.
        primary, fallback = (values.get(name, getattr(number, name)) for name in names)
        if fallback and not primary:
            label = kind.capitalize()
            raise refused(code, f"Cannot set {label}FallbackUrl without setting {label}Url")


def _matching(account: Account, wanted: str | None) -> list[PhoneNumber]:
    if wanted is None:
        return list(account.numbers.values())
    if _NUMBER_FILTER.fullmatch(wanted) is None:
        # The vendor also takes letters for the digits of a telephone keypad; not modelled.
        return []
    return account.numbers_containing(wanted)


def _number(context: Context) -> PhoneNumber:
    number = context.account.numbers.get(context.ids["sid"])
    if number is None:
        raise context.missing()
    return number
