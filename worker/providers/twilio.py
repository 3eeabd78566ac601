"""Twilio: numbers of the 2010-04-01 API, and Elastic SIP trunks.

- Numbers: https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource
- Trunks: https://www.twilio.com/docs/sip-trunking/api
- Logins for termination: https://www.twilio.com/docs/voice/sip/api/sip-credentiallist-resource
- Credentials: https://www.twilio.com/docs/iam/api-keys, https://www.twilio.com/docs/iam/api/subaccounts
- Errors: https://www.twilio.com/docs/api/errors

A number carries its URLs itself, so there is no application to prepare, and SMS does not depend on
where voice goes. What each method promises is in ``Provider``; here is how Twilio keeps it, but for
the trunk, which is in ``_twilio_trunks``, and the way to Twilio, which is in ``_twilio_wire``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Final, Self

from pydantic import AfterValidator, SecretStr, field_validator, model_validator

from worker.domain.errors import (
    AccountSuspended,
    InsufficientPermission,
    InvalidCredentials,
    NumberNotActive,
    NumberNotOwned,
    NumberNotVoiceCapable,
    WebhookSetupFailed,
)
from worker.domain.job import Attempt
from worker.domain.values import (
    E164,
    NOWHERE,
    Account,
    CallbackUrls,
    Fields,
    ImportTag,
    Objects,
    OwnedNumber,
    Ownership,
    ProviderName,
    ProviderTrunk,
    Routing,
    RoutingMode,
    Target,
    TrunkPlan,
)
from worker.providers._core import Credentials, Record
from worker.providers._twilio_trunks import Trunks
from worker.providers._twilio_wire import Calls, Http, Sdk, log_in, real
from worker.settings import Settings

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
_NEVER_EMPTY: Final = re.compile(r".*_(method|mode|lookup)")
#: Beyond "in-use" the values of a number's status are not published; these words mean "not now".
_INACTIVE: Final = re.compile(r"pending|porting|inactive|suspend|release|fail", re.IGNORECASE)


def _sid(prefix: str) -> AfterValidator:
    def check(value: str) -> str:
        if re.fullmatch(rf"{prefix}[0-9a-fA-F]{{32}}", value) is None:
            raise ValueError(f"must be {prefix} followed by 32 hexadecimal digits")
        return value

    return AfterValidator(check)


class TwilioCredentials(Credentials):
    """An account's auth token, an API key of it, or both; or the token of its parent account.

    With both, the key makes the calls and the token verifies webhooks: Twilio signs them with the
    auth token of the account that holds the number, never with a key's secret or a parent's token.
    https://www.twilio.com/docs/usage/webhooks/webhooks-security
    """

    #: The account that holds the number.
    account_sid: Annotated[str, _sid("AC")]
    auth_token: SecretStr | None = None
    api_key_sid: Annotated[str, _sid("SK")] | None = None
    api_key_secret: SecretStr | None = None
    #: Whose auth token it is, where it is the parent's and not the account's own.
    parent_account_sid: Annotated[str, _sid("AC")] | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _is_one_word(cls, value: object) -> object:
        # To a stray space Twilio says "Authenticate", which tells nobody what is wrong.
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text == "":
            raise ValueError("must not be empty; leave it out if there is none")
        if isinstance(text, str) and not re.fullmatch(r"[!-~]+", text):
            raise ValueError("must not contain spaces or special characters")
        return value

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if (self.api_key_sid is None) != (self.api_key_secret is None):
            raise ValueError("api_key_sid and api_key_secret belong together")
        if self.auth_token is None and self.api_key_sid is None:
            raise ValueError("give auth_token, or api_key_sid and api_key_secret")
        if self.parent_account_sid is not None:
            if self.auth_token is None or self.api_key_sid is not None:
                raise ValueError("with parent_account_sid give its auth_token and no API key")
            if self.parent_account_sid == self.account_sid:
                raise ValueError("account_sid must be the subaccount, not the parent account")
        return self

    @property
    def account_ref(self) -> str:
        """The SID of the account that holds the number."""
        return self.account_sid

    @property
    def can_verify_webhooks(self) -> bool:
        """Whether the account's own auth token is among them."""
        return self.auth_token is not None and self.parent_account_sid is None

    @property
    def login(self) -> tuple[str, str]:
        """User name and password of the REST API."""
        if self.api_key_sid is not None and self.api_key_secret is not None:
            return self.api_key_sid, self.api_key_secret.get_secret_value()
        assert self.auth_token is not None
        return self.parent_account_sid or self.account_sid, self.auth_token.get_secret_value()


class Twilio:
    """One Twilio account during one attempt; not for several threads."""

    name: ClassVar[ProviderName] = ProviderName.TWILIO
    credentials_model: ClassVar[type[Credentials]] = TwilioCredentials
    ownership: ClassVar[Ownership] = Ownership.PROVEN
    modes: ClassVar[frozenset[RoutingMode]] = frozenset(RoutingMode)
    #: TwiML's <Sip> takes a user name and password; the origination of an Elastic SIP trunk none.
    authenticating_modes: ClassVar[frozenset[RoutingMode]] = frozenset({RoutingMode.WEBHOOK})
    number_id_shape: ClassVar[str] = "PN[0-9a-fA-F]{32}"

    def __init__(
        self, credentials: TwilioCredentials, settings: Settings, attempt: Attempt
    ) -> None:
        self._credentials = credentials
        self._settings = settings
        self._http = Http(settings, attempt)
        self._calls = Calls(self._http, attempt)
        self._client = log_in(*credentials.login, credentials.account_sid, self._http, settings)
        self._trunks = Trunks(self._client, self._calls, settings)

    @classmethod
    def connect(cls, credentials: Credentials, settings: Settings, attempt: Attempt) -> Self:
        """Returns an adapter for these credentials; makes no call."""
        assert isinstance(credentials, TwilioCredentials)
        return cls(credentials, settings, attempt)

    @classmethod
    def notes(cls, mode: RoutingMode, *, sms: bool) -> tuple[str, ...]:
        """Returns nothing: SMS does not depend on where voice goes."""
        del mode, sms
        return ()

    def signalling_addresses(self) -> tuple[str, ...]:
        """Returns the signalling networks of Elastic SIP Trunking."""
        return self._settings.twilio_signalling_addresses

    def verify_credentials(self, mode: RoutingMode) -> Account:
        """Lists a number with an API key, which may not read accounts; fetches the account else."""
        given = self._credentials
        kind = "auth_token" if given.parent_account_sid is None else "parent_auth_token"
        warnings: tuple[str, ...] = ()
        if mode is RoutingMode.SIP_TRUNK:
            self._require_own_login()
        if given.api_key_sid is not None:
            kind = "api_key"
            self._calls.read(lambda: self._client.incoming_phone_numbers.list(limit=1))
            if mode is RoutingMode.SIP_TRUNK:
                self._trunks.look()
        if given.auth_token is not None:
            warnings = self._verify_token(given.auth_token.get_secret_value())
        return Account(id=given.account_sid, credential_kind=kind, warnings=warnings)

    def _verify_token(self, token: str) -> tuple[str, ...]:
        given = self._credentials
        sid = given.account_sid
        client = self._client
        if given.api_key_sid is not None:
            client = log_in(sid, token, sid, self._http, self._settings)
        try:
            account = self._calls.read(
                lambda: real(client.api.v2010.accounts(sid).fetch(), sid),
                missing=InvalidCredentials,
            )
        except InvalidCredentials:
            if given.api_key_sid is None:
                raise
            raise InvalidCredentials(
                "The API key works, but the auth token is not this account's. Correct it, or leave "
                "it out."
            ) from None
        if account.status != "active":
            raise AccountSuspended
        warnings = []
        if account.type == "Trial":
            warnings.append("This is a Twilio trial account, which limits who can be called.")
        # Only who holds the primary token is shown it. Webhooks are signed with that one, so that a
        # secondary token passes every check and then fails every call.
        if given.can_verify_webhooks and account.auth_token != token:
            warnings.append(
                "The auth token seems not to be the account's primary one, which signs webhooks."
            )
        return tuple(warnings)

    def find_number(self, number: E164, number_id: str | None) -> OwnedNumber:
        """Compares exactly: the list's filter also returns numbers that only contain the digits."""
        rows = self._calls.read(
            lambda: self._client.incoming_phone_numbers.list(phone_number=number)
        )
        row = next((row for row in rows if row.phone_number == number), None)
        if row is None:
            raise NumberNotOwned
        if number_id not in (None, row.sid):
            raise NumberNotOwned("The given number id belongs to another number of the account.")
        if _INACTIVE.search(_text(row.status)):
            raise NumberNotActive
        able = {key.lower(): value for key, value in (row.capabilities or {}).items()}
        if not able.get("voice"):
            raise NumberNotVoiceCapable
        if row.voice_receive_mode == "fax":
            # Whatever the voice settings say, calls go to a product that is switched off:
            # https://www.twilio.com/docs/api/errors/34005
            raise NumberNotVoiceCapable(
                "This number is set to receive faxes. Set it to accept voice calls at Twilio, then "
                "import it."
            )
        return OwnedNumber(
            id=str(row.sid),
            e164=number,
            country=number.region,
            voice=True,
            sms=bool(able.get("sms")),
            routing=_routing(row),
        )

    def read_routing(self, number_id: str) -> Routing | None:
        """Fetches the number; None if the account has it no more."""
        number = self._client.incoming_phone_numbers(number_id)
        try:
            row = self._calls.read(lambda: real(number.fetch(), number_id), missing=NumberNotOwned)
        except NumberNotOwned:
            return None
        return _routing(row)

    def target(self, part: str, fields: Fields) -> Target:
        """Tells which field wins: a trunk over an application over a URL."""
        for kind, name in _PRECEDENCE[part]:
            value = fields.get(name, "")
            if value and not value.startswith(_DEMO_URLS):
                return Target(kind=kind, value=value)
        return NOWHERE

    def plan_webhooks(
        self, urls: CallbackUrls, objects: Objects, *, sms: bool
    ) -> Mapping[str, Fields]:
        """Returns the fields to write; none if the webhooks' signatures could not be checked."""
        del objects
        if not self._credentials.can_verify_webhooks:
            return {}
        parts: dict[str, Fields] = {
            "status": {"status_callback": urls.status, "status_callback_method": "POST"}
        }
        if sms:
            parts["sms"] = {
                "sms_url": urls.sms,
                "sms_method": "POST",
                "sms_fallback_url": "",
                "sms_application_sid": "",
            }
        return parts

    def plan_voice(self, mode: RoutingMode, urls: CallbackUrls, objects: Objects) -> Fields:
        """Returns the trunk, or our URL and nothing that wins over it."""
        if mode is RoutingMode.SIP_TRUNK:
            return {"trunk_sid": objects["trunk"], "voice_application_sid": ""}
        return {
            "voice_url": urls.voice,
            "voice_method": "POST",
            # Else the customer's old system would answer when ours cannot.
            "voice_fallback_url": "",
            "voice_application_sid": "",
            "trunk_sid": "",
        }

    def write_routing(self, number_id: str, fields: Fields) -> None:
        """Updates the number; sends nothing that the vendor's own rules make of the rest."""
        unknown = fields.keys() - {name for names in PARTS.values() for name in names}
        assert not unknown, f"no such fields: {sorted(unknown)}"
        sent = {k: v for k, v in fields.items() if v or not _NEVER_EMPTY.fullmatch(k)}
        # Setting a trunk deletes the application and the other way round. What becomes of the one
        # if the other is cleared in the same request is not documented.
        if sent.get("trunk_sid"):
            sent.pop("voice_application_sid", None)
        elif sent.get("voice_application_sid"):
            sent.pop("trunk_sid", None)
        number = self._client.incoming_phone_numbers(number_id)
        self._calls.write(
            lambda: number.update(**sent), refused=WebhookSetupFailed, missing=NumberNotOwned
        )

    def prepare_application(
        self, tag: ImportTag, mode: RoutingMode, urls: CallbackUrls, *, sms: bool, record: Record
    ) -> Objects:
        """Returns {}: the number itself carries our URLs."""
        del tag, mode, urls, sms, record
        return {}

    def remove_application(self, tag: ImportTag, objects: Objects) -> None:
        """Does nothing: there is no application."""

    def prepare_trunk(self, tag: ImportTag, plan: TrunkPlan, *, record: Record) -> ProviderTrunk:
        """Makes trunk, origination URL and login; what lets calls in, the login's mapping, last."""
        self._require_own_login()
        return self._trunks.prepare(tag, plan, record=record)

    def remove_trunk(self, tag: ImportTag, objects: Objects) -> None:
        """Deletes the trunk with its parts, then the credential list that was mapped to it."""
        if self._credentials.parent_account_sid is not None and "trunk" not in objects:
            return  # prepare_trunk refused before it did anything
        self._trunks.remove(tag, objects)

    def _require_own_login(self) -> None:
        if self._credentials.parent_account_sid is not None:
            # The paths of trunking.twilio.com name no account: it is the one that logs in.
            raise InsufficientPermission(
                "SIP trunks of a Twilio subaccount can only be reached with its own credentials. "
                "Give the subaccount's own auth token or API key instead of the parent account's."
            )


def _routing(row: Sdk) -> Routing:
    return Routing(
        parts={
            part: {name: _text(getattr(row, name)) for name in names}
            for part, names in PARTS.items()
        }
    )


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
