"""Accounts as a test describes them, and changes by hand. Vendor rules hold here too."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from deploy.sandbox import twilio_numbers, twilio_trunking
from deploy.sandbox.twilio_fields import HOOK_PARAMETERS, checked
from deploy.sandbox.twilio_numbers import PARAMETERS as NUMBER_PARAMETERS
from deploy.sandbox.twilio_state import (
    Account,
    AccountStatus,
    AccountType,
    ApiKey,
    Application,
    Bundle,
    BundleStatus,
    KeyKind,
    Limits,
    MessagingService,
    PhoneNumber,
    Trunk,
    TwilioState,
    new_sid,
)
from deploy.sandbox.twilio_wire import TwilioError

if TYPE_CHECKING:
    from collections.abc import Mapping

_E164 = r"^\+[1-9][0-9]{1,14}$"
_AC = r"^AC[0-9a-fA-F]{32}$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _WithSettings(BaseModel):
    """Fields that are not declared are the vendor's own settings, such as `voice_url`."""

    model_config = ConfigDict(extra="allow")

    def form(self) -> dict[str, str]:
        """The settings as the vendor's form parameters."""
        return as_form(self.model_extra or {})


class KeySeed(_Strict):
    """An API key."""

    sid: Annotated[str, Field(pattern=r"^SK[0-9a-fA-F]{32}$")]
    secret: str
    kind: KeyKind = "standard"
    permissions: tuple[str, ...] = ()


class NumberSeed(_WithSettings):
    """A number and any of its settings."""

    phone_number: Annotated[str, Field(pattern=_E164)]
    sid: Annotated[str, Field(pattern=r"^PN[0-9a-fA-F]{32}$")] | None = None
    capabilities: dict[str, bool] = {}
    status: str | None = None
    type: str | None = None
    origin: str | None = None
    beta: bool | None = None
    address_requirements: str | None = None
    emergency_address_status: str | None = None
    voice_region: str | None = None


class ApplicationSeed(_WithSettings):
    """An application and any of its settings."""

    sid: Annotated[str, Field(pattern=r"^AP[0-9a-fA-F]{32}$")] | None = None


class TrunkSeed(_WithSettings):
    """A trunk and any of its settings."""

    sid: Annotated[str, Field(pattern=r"^TK[0-9a-fA-F]{32}$")] | None = None


class BundleSeed(_Strict):
    """A regulatory bundle."""

    sid: Annotated[str, Field(pattern=r"^BU[0-9a-fA-F]{32}$")]
    status: BundleStatus


class ServiceSeed(_Strict):
    """A Messaging Service with some of the account's numbers."""

    sid: Annotated[str, Field(pattern=r"^MG[0-9a-fA-F]{32}$")]
    friendly_name: str = ""
    inbound_request_url: str = ""
    use_inbound_webhook_on_number: bool = False
    numbers: list[Annotated[str, Field(pattern=_E164)]] = []


class LimitsSeed(_Strict):
    """Other limits than the vendor's usual ones."""

    trunks: int | None = None
    credential_lists: int | None = None
    credentials_per_list: int | None = None
    applications: int | None = None
    origination_urls_per_trunk: int | None = None


class AccountSeed(_Strict):
    """A new account, or changes and additions to one that exists."""

    sid: Annotated[str, Field(pattern=_AC)]
    auth_token: str | None = None
    secondary_auth_token: str | None = None
    shows_token_to_secondary: bool | None = None
    friendly_name: str | None = None
    status: AccountStatus | None = None
    type: AccountType | None = None
    owner_account_sid: Annotated[str, Field(pattern=_AC)] | None = None
    limits: LimitsSeed | None = None
    api_keys: list[KeySeed] = []
    applications: list[ApplicationSeed] = []
    trunks: list[TrunkSeed] = []
    numbers: list[NumberSeed] = []
    bundles: list[BundleSeed] = []
    messaging_services: list[ServiceSeed] = []


class TwilioSeed(_Strict):
    """Everything that can be seeded."""

    accounts: list[AccountSeed] = []


class NumberEdit(_Strict):
    """What a customer does to a number in the vendor's console."""

    account: str
    phone_number: str
    set: dict[str, object] = {}
    remove: bool = False


_META = (
    "capabilities",
    "status",
    "type",
    "origin",
    "beta",
    "address_requirements",
    "emergency_address_status",
    "voice_region",
)


def sow(state: TwilioState, seed: TwilioSeed) -> None:
    """Adds accounts and what is in them. Raises ValueError; what came before it stays."""
    try:
        for item in seed.accounts:
            account = _account(state, item)
            for key in item.api_keys:
                account.api_keys[key.sid] = ApiKey(**key.model_dump())
                state.key_owners[key.sid] = account
            for application in item.applications:
                _add_application(account, application)
            for trunk in item.trunks:
                new = Trunk(sid=trunk.sid or new_sid("TK"))
                twilio_trunking.add_trunk(state, account, new, trunk.form())
            for number in item.numbers:
                _add_number(state, account, number)
            for bundle in item.bundles:
                account.bundles[bundle.sid] = Bundle(**bundle.model_dump())
            for service in item.messaging_services:
                _add_service(account, service)
    except TwilioError as problem:
        raise ValueError(problem.message) from problem


def edit_number(state: TwilioState, edit: NumberEdit) -> None:
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
    changes = dict(edit.set)
    meta = {name: changes.pop(name) for name in _META if name in changes}
    try:
        twilio_numbers.change(account, number, as_form(changes))
    except TwilioError as problem:
        raise ValueError(problem.message) from problem
    for name, value in meta.items():
        setattr(number, name, value)


def as_form(values: Mapping[str, object]) -> dict[str, str]:
    """`voice_url` becomes `VoiceUrl`, true becomes `true`, null becomes empty."""
    return {
        "".join(word.capitalize() for word in name.split("_")): _as_text(value)
        for name, value in values.items()
    }


def _as_text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case _:
            return str(value)


def _account(state: TwilioState, item: AccountSeed) -> Account:
    given = item.model_dump(
        exclude={
            "api_keys",
            "applications",
            "trunks",
            "numbers",
            "bundles",
            "messaging_services",
            "limits",
        },
        exclude_none=True,
    )
    account = state.accounts.get(item.sid)
    if account is None:
        if not item.auth_token:
            msg = f"a new account needs an auth_token: {item.sid}"
            raise ValueError(msg)
        account = state.accounts[item.sid] = Account(**given)
    else:
        for name, value in given.items():
            setattr(account, name, value)
    if item.limits is not None:
        raised: dict[str, int] = item.limits.model_dump(exclude_none=True)
        account.limits = replace(Limits(), **raised)
    return account


def _add_application(account: Account, item: ApplicationSeed) -> None:
    application = Application(sid=item.sid or new_sid("AP"))
    for name, value in checked(item.form(), HOOK_PARAMETERS).items():
        setattr(application, name, value)
    account.applications[application.sid] = application


def _add_service(account: Account, item: ServiceSeed) -> None:
    """A number is in one service at most: https://www.twilio.com/docs/api/errors/21712."""
    sids = []
    for phone_number in item.numbers:
        number = account.number_by_phone(phone_number)
        others = (found for found in account.messaging_services.values() if found.sid != item.sid)
        if number is None or any(number.sid in other.number_sids for other in others):
            msg = f"{phone_number} is not in the account, or in another Messaging Service"
            raise ValueError(msg)
        sids.append(number.sid)
    given = item.model_dump(exclude={"numbers"})
    account.messaging_services[item.sid] = MessagingService(**given, number_sids=sids)


def _add_number(state: TwilioState, account: Account, item: NumberSeed) -> None:
    if item.phone_number in state.taken_numbers:
        msg = f"{item.phone_number} is already in an account"
        raise ValueError(msg)
    number = PhoneNumber(
        sid=item.sid or new_sid("PN"),
        phone_number=item.phone_number,
        friendly_name=item.phone_number,
    )
    number.capabilities |= item.capabilities
    for name in _META[1:]:
        if (value := getattr(item, name)) is not None:
            setattr(number, name, value)
    form = item.form()
    if unknown := form.keys() - NUMBER_PARAMETERS.keys():
        msg = f"a number has no {', '.join(sorted(unknown))}"
        raise ValueError(msg)
    twilio_numbers.change(account, number, form)
    account.add_number(number)
    state.taken_numbers.add(number.phone_number)
