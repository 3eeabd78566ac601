"""What a customer does by hand to anything but a number; the vendor's rules hold here too."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from deploy.sandbox import twilio_api, twilio_trunking
from deploy.sandbox.twilio_auth import Principal
from deploy.sandbox.twilio_seed import as_form
from deploy.sandbox.twilio_wire import Context, TwilioError

if TYPE_CHECKING:
    from deploy.sandbox.twilio_state import Account, TwilioState

Kind = Literal["application", "trunk", "origination", "mapping", "credential_list", "credential"]

#: Kind → the operations that change and delete one, and the name of its id in their paths.
_OPERATIONS: Final = MappingProxyType[Kind, tuple[str, str]](
    {
        "application": ("twilio.applications", "sid"),
        "trunk": ("twilio.trunks", "trunk_sid"),
        "origination": ("twilio.origination_urls", "sid"),
        "mapping": ("twilio.trunk_credential_lists", "sid"),
        "credential_list": ("twilio.credential_lists", "sid"),
        "credential": ("twilio.credentials", "sid"),
    }
)
_ROUTES: Final = {route.operation: route for route in twilio_api.ROUTES + twilio_trunking.ROUTES}


class ObjectEdit(BaseModel):
    """A change of one object, by the vendor's own words in snake case; or its removal."""

    model_config = ConfigDict(extra="forbid")

    account: str
    kind: Kind
    #: Of a mapping: the SIDs of trunk and credential list with a slash between.
    id: str
    set: dict[str, object] = {}
    remove: bool = False

    @model_validator(mode="after")
    def _does_one_thing(self) -> Self:
        if bool(self.set) == self.remove:
            msg = "an edit either sets something or removes the object"
            raise ValueError(msg)
        return self


def edit_object(state: TwilioState, edit: ObjectEdit) -> None:
    """Runs the vendor's own operation, as the account's owner. Raises ValueError."""
    account = state.accounts.get(edit.account)
    if account is None:
        msg = f"there is no account {edit.account}"
        raise ValueError(msg)
    prefix, name = _OPERATIONS[edit.kind]
    operation = f"{prefix}.{'delete' if edit.remove else 'update'}"
    if operation not in _ROUTES:
        msg = f"a {edit.kind} cannot be changed, only removed"
        raise ValueError(msg)
    parent, _, sid = edit.id.rpartition("/")
    context = Context(
        state=state,
        account=account,
        principal=Principal(account=account, kind="primary_token"),
        path=f"/{edit.kind}/{edit.id}",
        base_url="",
        ids={
            **_parent(account, edit.kind, sid),
            **({"trunk_sid": parent} if parent else {}),
            name: sid,
        },
        query={},
        form=as_form(edit.set),
    )
    try:
        _ROUTES[operation].handler(context)
    except TwilioError as problem:
        raise ValueError(problem.message) from problem


def _parent(account: Account, kind: Kind, sid: str) -> dict[str, str]:
    """What else the path of a part names: the object that it is a part of."""
    if kind == "origination":
        parents = (trunk.sid for trunk in account.trunks.values() if sid in trunk.origination_urls)
        return {"trunk_sid": next(parents, "")}
    if kind == "credential":
        lists = account.credential_lists.values()
        return {"list_sid": next((item.sid for item in lists if sid in item.credentials), "")}
    return {}
