"""Changes by hand, as a customer makes them in the vendor's portal.

    {"account", "phone_number", "set": {...} | "remove": true}
    {"account", "kind", "id", "set": {...} | "remove": true}

A kind is the vendor's record type, such as `texml_application`. What is set must be what the vendor
takes; what is removed is taken off first wherever it is used, as the portal makes a customer do.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from pydantic import Field, TypeAdapter

from deploy.sandbox.telnyx_kinds import KINDS, Kind
from deploy.sandbox.telnyx_resources import change_by_hand, remove_by_hand
from deploy.sandbox.telnyx_seed import NumberFields, Strict, set_number, words
from deploy.sandbox.telnyx_wire import TelnyxError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.sandbox.telnyx_state import TelnyxState

_KINDS: Final[Mapping[str, Kind]] = MappingProxyType({kind.record_type: kind for kind in KINDS})


class NumberEdit(Strict):
    """What a customer does to a number in the vendor's portal."""

    account: str
    phone_number: str
    set: NumberFields = NumberFields()
    remove: bool = False


class ResourceEdit(Strict):
    """What a customer does to a connection, an FQDN or a profile."""

    account: str
    kind: str
    id: str
    #: Objects inside are changed, not replaced.
    set: dict[str, object] = Field(default_factory=dict)
    remove: bool = False


_EDIT: Final[TypeAdapter[NumberEdit | ResourceEdit]] = TypeAdapter(NumberEdit | ResourceEdit)


def edit(state: TelnyxState, document: object) -> None:
    """Changes or removes a number or another object. Raises ValueError."""
    match _EDIT.validate_python(document):
        case NumberEdit() as change:
            edit_number(state, change)
        case ResourceEdit() as change:
            edit_resource(state, change)


def edit_number(state: TelnyxState, edit: NumberEdit) -> None:
    """Changes or removes a number by hand. Raises ValueError."""
    account = state.accounts.get(edit.account)
    number = account.number_by_phone(edit.phone_number) if account else None
    if account is None or number is None:
        msg = f"account {edit.account} has no number {edit.phone_number}"
        raise ValueError(msg)
    if edit.remove:
        account.remove_number(number)
        state.taken_numbers.discard(number.phone_number)
        return
    try:
        set_number(account, number, edit.set.model_dump(exclude_unset=True))
    except TelnyxError as problem:
        raise ValueError(words(problem)) from problem


def edit_resource(state: TelnyxState, edit: ResourceEdit) -> None:
    """Changes or removes an object by hand. Raises ValueError."""
    account, kind = state.accounts.get(edit.account), _KINDS.get(edit.kind)
    found = account.resources(kind.store).get(edit.id) if account and kind else None
    if account is None or kind is None or found is None or found.record_type != edit.kind:
        msg = f"account {edit.account} has no {edit.kind} {edit.id}"
        raise ValueError(msg)
    if edit.remove:
        remove_by_hand(state, account, kind, found)
        return
    try:
        change_by_hand(state, account, kind, found, edit.set)
    except TelnyxError as problem:
        raise ValueError(words(problem)) from problem
