"""Accounts as a test describes them. Vendor rules hold here too.

{"accounts": [
    {"auth_id": "MA...", "auth_token": "...", "sip_trunking": true, "default_app": "<app_id>",
     "zentrunk": {"uris": [...], "credentials": [...], "ip_access_control_lists": [...],
                  "trunks": [...]},
     "applications": [{"app_id", "app_name", "answer_url", ..., "endpoints": ["user"]}],
     "numbers": [{"number": "14155550100", "app_id": "<application or inbound trunk>"}]},
    {"auth_id": "SA...", "auth_token": "...", "main": "MA...", "numbers": [...]}]}
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from deploy.sandbox import plivo_applications, plivo_numbers
from deploy.sandbox.plivo_fields import APPLICATION_PARAMETERS, checked
from deploy.sandbox.plivo_state import (
    Account,
    AccountType,
    Application,
    BillingMode,
    Number,
    PlivoState,
    Subaccount,
    new_id,
)
from deploy.sandbox.plivo_wire import PlivoError
from deploy.sandbox.plivo_zentrunk import ACCESS_LISTS, CREDENTIALS, TRUNKS, URIS, Item, Kind

_ID: Final = r"^[0-9]{1,24}$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NumberSettings(_Strict):
    """Everything about a number that can be seeded or changed by hand."""

    #: An application or an inbound trunk; empty or null is neither.
    app_id: str | None = None
    alias: str | None = None
    number_type: str | None = None
    carrier: str | None = None
    country: str | None = None
    region: str | None = None
    city: str | None = None
    voice_enabled: bool | None = None
    sms_enabled: bool | None = None
    mms_enabled: bool | None = None
    active: bool | None = None
    compliance_status: str | None = None
    tendlc_registration_status: str | None = None
    toll_free_sms_verification: str | None = None
    added_on: str | None = None
    renewal_date: str | None = None

    def values(self) -> dict[str, Any]:
        """What was given; null empties what has no null."""
        given = self.model_dump(include=set(NumberSettings.model_fields), exclude_unset=True)
        return given | {name: given[name] or "" for name in ("app_id", "alias") if name in given}


class NumberSeed(NumberSettings):
    """A number, as digits without a plus."""

    number: Annotated[str, Field(pattern=r"^[1-9][0-9]{1,14}$")]


class ApplicationSeed(BaseModel):
    """An application. Undeclared fields are the vendor's own settings, such as `answer_url`.

    Its name may hold anything: names that were made elsewhere do.
    """

    model_config = ConfigDict(extra="allow")

    app_id: Annotated[str, Field(pattern=_ID)] | None = None
    app_name: str
    #: User names of SIP endpoints that belong to it.
    endpoints: list[str] = []


class ZentrunkSeed(_Strict):
    """SIP trunking, as the bodies of creates; `uri_uuid`, `trunk_id` and so on may be given."""

    uris: list[dict[str, Any]] = []
    credentials: list[dict[str, Any]] = []
    ip_access_control_lists: list[dict[str, Any]] = []
    trunks: list[dict[str, Any]] = []


class AccountSeed(_Strict):
    """A new account or sub-account, or changes and additions to one that exists."""

    auth_id: Annotated[str, Field(pattern=r"^[MS]A[A-Z0-9]{18}$")]
    auth_token: str | None = None
    name: str | None = None
    #: The main account of a sub-account.
    main: str | None = None
    #: For a sub-account.
    enabled: bool | None = None
    account_type: AccountType | None = None
    billing_mode: BillingMode | None = None
    cash_credits: str | None = None
    timezone: str | None = None
    sip_trunking: bool | None = None
    #: The application that numbers without one get.
    default_app: str | None = None
    zentrunk: ZentrunkSeed = ZentrunkSeed()
    applications: list[ApplicationSeed] = []
    numbers: list[NumberSeed] = []


class PlivoSeed(_Strict):
    """Everything that can be seeded."""

    accounts: list[AccountSeed] = []


def sow(state: PlivoState, seed: PlivoSeed) -> None:
    """Adds accounts and what is in them. Raises ValueError; what came before it stays."""
    try:
        for item in seed.accounts:
            account = _subaccount(state, item) if item.main else _account(state, item)
            owner = item.auth_id if item.main else None
            _add_zentrunk(account, item.zentrunk)
            for application in item.applications:
                _add_application(account, owner, application)
            if item.default_app is not None:
                _make_default(account, item.default_app)
            for number in item.numbers:
                _add_number(state, account, owner, number)
    except PlivoError as problem:
        raise ValueError(problem.message) from problem


def _account(state: PlivoState, item: AccountSeed) -> Account:
    if not item.auth_id.startswith("MA"):
        msg = f"a subaccount needs main: {item.auth_id}"
        raise ValueError(msg)
    given = item.model_dump(
        include={
            *("auth_id", "auth_token", "name", "account_type", "billing_mode", "cash_credits"),
            *("timezone", "sip_trunking"),
        },
        exclude_none=True,
    )
    account = state.accounts.get(item.auth_id)
    if account is None:
        _require_token(item)
        account = state.accounts[item.auth_id] = Account(**given)
    for name, value in given.items():
        setattr(account, name, value)
    return account


def _subaccount(state: PlivoState, item: AccountSeed) -> Account:
    """Gives the main account, which holds what the sub-account has."""
    account = state.accounts.get(item.main or "")
    if account is None or not item.auth_id.startswith("SA"):
        msg = f"{item.auth_id} is not a subaccount of an account that exists"
        raise ValueError(msg)
    given = item.model_dump(include={"auth_id", "auth_token", "name", "enabled"}, exclude_none=True)
    if item.auth_id not in account.subaccounts:
        _require_token(item)
        account.subaccounts[item.auth_id] = Subaccount(**given)
        state.owners[item.auth_id] = account
    for name, value in given.items():
        setattr(account.subaccounts[item.auth_id], name, value)
    return account


def _require_token(item: AccountSeed) -> None:
    if not item.auth_token:
        msg = f"a new account needs an auth_token: {item.auth_id}"
        raise ValueError(msg)


def _add_zentrunk(account: Account, seed: ZentrunkSeed) -> None:
    for body in seed.uris:
        _add_resource(account, URIS, body)
    for body in seed.credentials:
        _add_resource(account, CREDENTIALS, body)
    for body in seed.ip_access_control_lists:
        _add_resource(account, ACCESS_LISTS, body)
    for body in seed.trunks:
        _add_resource(account, TRUNKS, body)


def _add_resource(account: Account, kind: Kind[Item], body: dict[str, Any]) -> None:
    given = body.pop(kind.id_name, None)
    item = kind.make(account, body)
    if given is not None:
        item = replace(item, id=str(given))
    kind.held(account.zentrunk)[item.id] = item


def _add_application(account: Account, owner: str | None, item: ApplicationSeed) -> None:
    application = Application(id=item.app_id or new_id(), app_name=item.app_name, sub_account=owner)
    values = checked(item.model_extra or {}, APPLICATION_PARAMETERS)
    plivo_applications.change(account, application, values)
    account.applications[application.id] = application
    for name in item.endpoints:
        account.endpoints[name] = application.id


def _make_default(account: Account, app_id: str) -> None:
    if app_id not in account.applications:
        msg = f"default_app {app_id} is not among the applications"
        raise ValueError(msg)
    for application in account.applications.values():
        application.default_number_app = application.id == app_id


def _add_number(state: PlivoState, account: Account, owner: str | None, item: NumberSeed) -> None:
    if item.number in state.taken_numbers:
        msg = f"{item.number} is already in an account"
        raise ValueError(msg)
    number = Number(number=item.number, sub_account=owner)
    plivo_numbers.change(account, number, item.values())
    account.numbers[number.number] = number
    state.taken_numbers.add(number.number)
