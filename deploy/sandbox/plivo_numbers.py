"""Numbers: how they are found, and the one target that each has.

https://www.plivo.com/docs/numbers/api/account-phone-number
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from deploy.sandbox.plivo_fields import NUMBER_PARAMETERS, checked
from deploy.sandbox.plivo_render import number_document
from deploy.sandbox.plivo_wire import (
    Context,
    PlivoError,
    changed,
    deleted,
    not_found,
    ok,
    only,
    page,
    refused,
)

if TYPE_CHECKING:
    from deploy.sandbox.plivo_state import Account, Application, Number
    from deploy.sandbox.vendor import Answer

_SERVICES: Final[Mapping[str, Callable[[Number], bool]]] = MappingProxyType(
    {
        "voice": lambda number: number.voice_enabled,
        "sms": lambda number: number.sms_enabled,
        "mms": lambda number: number.mms_enabled,
    }
)


def _offers(number: Number, wanted: str) -> bool:
    return all(name in _SERVICES and _SERVICES[name](number) for name in wanted.split(","))


#: Of the vendor's filters those that concern routing; the others are refused as unknown.
_FILTERS: Final[Mapping[str, Callable[[Number, str], bool]]] = MappingProxyType(
    {
        "number_startswith": lambda number, wanted: number.number.startswith(wanted),
        "type": lambda number, wanted: number.number_type == wanted,
        "subaccount": lambda number, wanted: number.sub_account == wanted,
        "alias": lambda number, wanted: number.alias == wanted,
        "services": _offers,
    }
)


def index(context: Context) -> Answer:
    """Lists numbers; all filters that are given must hold."""
    found = [number for number in context.account.numbers.values() if context.sees(number)]
    for name, wanted in only(context, _FILTERS).items():
        found = [number for number in found if _FILTERS[name](number, wanted)]
    return page(context, found, lambda item: number_document(context, item), link=context.path)


def fetch(context: Context) -> Answer:
    """One number, by its digits without a plus."""
    return ok(number_document(context, _number(context)))


def update(context: Context) -> Answer:
    """Changes a number. Without `app_id` it goes to the account's default application.

    The vendor's SDK repeats the number in the body.
    """
    number = _number(context)
    body = dict(context.body)
    if body.pop("number", number.number) != number.number:
        raise refused("number does not match the path")
    values = checked(body, NUMBER_PARAMETERS)
    if "sub_account" in values:
        _refuse_foreign(context, values["sub_account"])
    if "app_id" not in values:
        values["app_id"] = _default_target(context)
    change(context.account, number, values, context.sees)
    return changed()


def delete(context: Context) -> Answer:
    """Releases the number: it is gone for good, whoever calls this.

    It is here so that a test can prove that nobody does.
    """
    number = _number(context)
    del context.account.numbers[number.number]
    context.account.released_numbers.append(number.number)
    context.state.taken_numbers.discard(number.number)
    return deleted()


def buy(_context: Context) -> Answer:
    """Buys a number. Nothing is for sale here: an import must only find and update."""
    raise not_found()


def change(
    account: Account,
    number: Number,
    values: Mapping[str, Any],
    sees: Callable[[Application], bool] = lambda _: True,
) -> None:
    """Applies checked values, all or none. Raises PlivoError."""
    owner = values.get("sub_account", number.sub_account)
    if target := values.get("app_id"):
        _refuse_target(account, target, owner, sees)
    for attribute, value in values.items():
        setattr(number, attribute, value)


def _refuse_target(
    account: Account, target: str, owner: str | None, sees: Callable[[Application], bool]
) -> None:
    """What cannot be a number's target.

    That an inbound trunk can be one is documented, the rest is not: which status an unknown id
    gets, and that outbound trunks, broken trunks and other sub-accounts' applications cannot.
    """
    trunk = account.zentrunk.trunks.get(target)
    if trunk is not None:
        if trunk.trunk_direction != "inbound" or account.zentrunk.is_broken(trunk):
            raise refused(f"app_id {target} is not an inbound trunk that works")
        if not account.sip_trunking or owner is not None:
            raise refused(f"app_id {target} is a trunk, which needs SIP trunking")
        return
    application = account.applications.get(target)
    if application is None or not sees(application):
        raise refused(f"app_id {target} was not found")
    if application.sub_account not in {None, owner}:
        raise refused(f"app_id {target} belongs to another subaccount")


def _default_target(context: Context) -> str:
    """The application that numbers without one get, empty when there is none.

    The latter is not documented. The number then loses its target, so that a client that forgets
    `app_id` is found out.
    """
    for application in context.account.applications.values():
        if application.default_number_app and application.sub_account == context.sub_account:
            return application.id
    return ""


def _refuse_foreign(context: Context, subaccount: str) -> None:
    if context.sub_account is not None:
        # Documented is that only the main account can do it, not how a sub-account is told.
        raise PlivoError(403, "only the main account can move a number")
    if subaccount not in context.account.subaccounts:
        raise refused(f"subaccount {subaccount} was not found")


def _number(context: Context) -> Number:
    number = context.account.numbers.get(context.ids["number"])
    if number is None or not context.sees(number):
        raise not_found()
    return number
