"""What a customer does by hand, in the vendor's console: to numbers, and to what an import made.

{"account": "MA...", "number": "14155550100", "set": {"app_id": "..."}}
{"account": "MA...", "kind": "trunk", "id": "...", "set": {"trunk_status": "disabled"}}
{"account": "MA...", "kind": "application", "id": "...", "remove": true}

Values are checked as the API checks them. Unlike an update by API, only what is given changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from deploy.sandbox import plivo_applications, plivo_numbers
from deploy.sandbox.plivo_fields import APPLICATION_PARAMETERS, boolean, checked
from deploy.sandbox.plivo_seed import NumberSettings
from deploy.sandbox.plivo_state import Account, PlivoState
from deploy.sandbox.plivo_wire import PlivoError
from deploy.sandbox.plivo_zentrunk import CREDENTIALS, TRUNKS, URIS, Kind

_DIGITS: Final = r"^\+?[1-9][0-9]{1,14}$"
_ZENTRUNK: Final = MappingProxyType[str, Kind[Any]](
    {"uri": URIS, "credential": CREDENTIALS, "trunk": TRUNKS}
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")

    #: The main account.
    account: str
    remove: bool = False


class NumberEdit(_Strict):
    """A change of a number."""

    #: With or without a plus; also taken as `phone_number`, which other vendors call it.
    number: Annotated[
        str,
        Field(pattern=_DIGITS, validation_alias=AliasChoices("number", "phone_number")),
    ]
    set: NumberSettings = NumberSettings()


class ObjectEdit(_Strict):
    """A change of an application or of a part of Zentrunk, in the words of the API."""

    kind: Literal["application", "uri", "credential", "trunk"]
    id: str
    set: dict[str, Any] = {}


def edit(state: PlivoState, document: object) -> None:
    """Changes or removes something by hand. Raises ValueError."""
    try:
        if isinstance(document, Mapping) and "kind" in document:
            _edit_object(state, ObjectEdit.model_validate(document))
        else:
            _edit_number(state, NumberEdit.model_validate(document))
    except PlivoError as problem:
        raise ValueError(problem.message) from problem


def _edit_number(state: PlivoState, edit: NumberEdit) -> None:
    account = state.accounts.get(edit.account)
    number = account.numbers.get(edit.number.removeprefix("+")) if account else None
    if account is None or number is None:
        msg = f"account {edit.account} has no number {edit.number}"
        raise ValueError(msg)
    if edit.remove:
        del account.numbers[number.number]
        state.taken_numbers.discard(number.number)
        return
    plivo_numbers.change(account, number, edit.set.values())


def _edit_object(state: PlivoState, edit: ObjectEdit) -> None:
    account = state.accounts.get(edit.account)
    if account is None or edit.id not in _held(account, edit.kind):
        msg = f"account {edit.account} has no {edit.kind} {edit.id}"
        raise ValueError(msg)
    if edit.remove:
        _remove(account, edit)
    elif edit.kind == "application":
        _change_application(account, edit)
    else:
        kind = _ZENTRUNK[edit.kind]
        kind.amend(account, kind.held(account.zentrunk)[edit.id], edit.set)


def _held(account: Account, kind: str) -> dict[str, Any]:
    return account.applications if kind == "application" else _ZENTRUNK[kind].held(account.zentrunk)


def _remove(account: Account, edit: ObjectEdit) -> None:
    """What becomes of the numbers is not documented; here they lose their target."""
    del _held(account, edit.kind)[edit.id]
    for number in account.numbers.values():
        if number.app_id == edit.id:
            number.app_id = ""
    for name in [name for name, owner in account.endpoints.items() if owner == edit.id]:
        account.endpoints[name] = ""


def _change_application(account: Account, edit: ObjectEdit) -> None:
    given = dict(edit.set)
    application = account.applications[edit.id]
    enabled = boolean("enabled", given.pop("enabled", application.enabled))
    plivo_applications.amend(account, application, checked(given, APPLICATION_PARAMETERS))
    application.enabled = enabled
