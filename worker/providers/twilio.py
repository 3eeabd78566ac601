"""Twilio: numbers of the 2010-04-01 API, and Elastic SIP trunks.

- Numbers: https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource
- Trunks: https://www.twilio.com/docs/sip-trunking/api
- Logins for termination: https://www.twilio.com/docs/voice/sip/api/sip-credentiallist-resource
- Credentials: https://www.twilio.com/docs/iam/api-keys, https://www.twilio.com/docs/iam/api/subaccounts
- Errors: https://www.twilio.com/docs/api/errors

A number carries its URLs itself, so there is no application to prepare, and SMS does not depend on
where voice goes. What each method promises is in ``Provider``; here is how Twilio keeps it.

The SDK loads a product's resources when they are first used: its import costs a process 6 MB and
30 ms, what is used here 8 MB more, so it stands at the top like any other.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache, partial
from hashlib import sha256
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Self, TypeAlias, TypeVar

import requests
import structlog
from pydantic import AfterValidator, SecretStr, field_validator, model_validator
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, ContentDecodingError
from twilio.base.exceptions import TwilioException, TwilioRestException, TwilioServiceException
from twilio.http.http_client import TwilioHttpClient
from twilio.http.response import Response
from twilio.rest import Client
from urllib3.exceptions import NewConnectionError

from worker.domain.errors import (
    AccountSuspended,
    InsufficientPermission,
    InternalError,
    InvalidCredentials,
    NotFound,
    NumberNotActive,
    NumberNotOwned,
    NumberNotVoiceCapable,
    PermanentError,
    ProviderRateLimited,
    ProviderUnavailable,
    SipTrunkProvisionFailed,
    TrunklineError,
    UndoFailed,
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
    ProviderName,
    ProviderTrunk,
    Routing,
    RoutingMode,
    SipLogin,
    Target,
    TrunkPlan,
)
from worker.providers._core import Credentials, Record, retrying
from worker.providers._http import parse_retry_after
from worker.settings import Settings

_T = TypeVar("_T")
_Sdk: TypeAlias = Any  # the SDK ships no types
_Failure: TypeAlias = Callable[[], TrunklineError]
_Note: TypeAlias = Callable[[str, _Sdk], None]
_Delete: TypeAlias = Callable[[_Sdk, type[PermanentError]], None]

_log = structlog.get_logger()

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
_LARGEST_PAGE: Final = 1000
_NOT_FOUND_CODE: Final = 20404


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
    modes: ClassVar[frozenset[RoutingMode]] = frozenset(RoutingMode)
    #: TwiML's <Sip> takes a user name and password; the origination of an Elastic SIP trunk none.
    authenticating_modes: ClassVar[frozenset[RoutingMode]] = frozenset({RoutingMode.WEBHOOK})
    number_id_shape: ClassVar[str] = "PN[0-9a-fA-F]{32}"

    def __init__(
        self, credentials: TwilioCredentials, settings: Settings, attempt: Attempt
    ) -> None:
        self._credentials = credentials
        self._settings = settings
        self._attempt = attempt
        self._http = Http(settings, attempt)
        self._client = self._log_in(*credentials.login)

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
            self._read(lambda: self._client.incoming_phone_numbers.list(limit=1))
            if mode is RoutingMode.SIP_TRUNK:
                self._read(lambda: self._trunks.list(limit=1))
        if given.auth_token is not None:
            warnings = self._verify_token(given.auth_token.get_secret_value())
        return Account(id=given.account_sid, credential_kind=kind, warnings=warnings)

    def _verify_token(self, token: str) -> tuple[str, ...]:
        given = self._credentials
        sid = given.account_sid
        client = self._client if given.api_key_sid is None else self._log_in(sid, token)
        try:
            account = self._read(
                lambda: _real(client.api.v2010.accounts(sid).fetch(), sid),
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
        rows = self._read(lambda: self._client.incoming_phone_numbers.list(phone_number=number))
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
            row = self._read(lambda: _real(number.fetch(), number_id), missing=NumberNotOwned)
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
        self._write(
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
        objects: dict[str, str] = {}

        def note(kind: str, row: _Sdk) -> None:
            objects[kind] = str(row.sid)
            record(dict(objects))

        have_trunk = partial(
            self._have, "trunk", self._trunks, tag, note, self._delete_trunk, secure=plan.secure
        )
        try:
            trunk = have_trunk(domain_name=trunk_domain(tag.import_id))
        except SipTrunkProvisionFailed:
            # The domain may be taken: by somebody, or by an earlier run of this import that was
            # undone, for Twilio keeps the domain of a deleted trunk back for up to 30 days.
            trunk = have_trunk(domain_name=trunk_domain(secrets.token_hex(16)))
        if plan.origination_host is not None:
            self._have(
                "origination",
                self._trunks(trunk.sid).origination_urls,
                tag,
                note,
                # "sips:" is not supported: https://www.twilio.com/docs/sip-trunking#origination
                sip_url=f"sip:{plan.origination_host};transport={'tls' if plan.secure else 'tcp'}",
                enabled=True,
                weight=1,
                priority=1,
            )
        if plan.termination is not None:
            self._have_login(trunk, tag, plan.termination, note)
        address = str(trunk.domain_name) if plan.termination is not None else None
        return ProviderTrunk(objects=objects, termination_address=address)

    def remove_trunk(self, tag: ImportTag, objects: Objects) -> None:
        """Deletes the trunk with its parts, then the credential list that was mapped to it."""
        if self._credentials.parent_account_sid is not None and "trunk" not in objects:
            return  # prepare_trunk refused before it did anything
        for row in self._ours_if_any(self._trunks, tag, objects.get("trunk")):
            self._delete_trunk(row, UndoFailed)
        lists = self._client.sip.credential_lists
        for row in self._ours_if_any(lists, tag, objects.get("credential_list")):
            self._delete(row, UndoFailed)

    def _have_login(self, trunk: _Sdk, tag: ImportTag, login: SipLogin, note: _Note) -> None:
        lists = self._client.sip.credential_lists
        ours = self._have("credential_list", lists, tag, note)
        credentials = lists(ours.sid).credentials
        rows = self._read(credentials.list, missing=ProviderUnavailable)
        row = next((row for row in rows if row.username == login.username), None)
        if row is None:
            row = self._write(lambda: _real(credentials.create(login.username, login.password)))
        else:
            # Twilio keeps a hash only: nothing else makes sure that it is of this password.
            self._write(lambda: row.update(password=login.password))
        note("credential", row)
        mappings = self._trunks(trunk.sid).credentials_lists
        mapped = self._read(mappings.list, missing=ProviderUnavailable)
        if ours.sid not in {row.sid for row in mapped}:
            self._write(lambda: mappings.create(ours.sid))

    def _have(
        self,
        kind: str,
        resource: _Sdk,
        tag: ImportTag,
        note: _Note,
        delete: _Delete | None = None,
        **wanted: object,
    ) -> _Sdk:
        """Adopts the oldest of ours, deletes the others, sets what is wanted; or creates it."""
        found = self._ours(resource, tag)
        if not found:
            try:
                create = partial(resource.create, friendly_name=tag.name, **wanted)
                found = [self._write(lambda: _real(create()))]
            except SipTrunkProvisionFailed:
                # A write of an earlier attempt may have landed just now and taken the name.
                found = self._ours(resource, tag)
                if not found:
                    raise
        row, *others = found
        note(kind, row)
        for other in others:
            (delete or self._delete)(other, SipTrunkProvisionFailed)
        if getattr(row, "domain_name", None):
            wanted.pop("domain_name", None)  # renaming would give the old one away
        if any(getattr(row, name) != value for name, value in wanted.items()):
            return self._write(lambda: _real(row.update(**wanted)))
        return row

    def _ours(self, resource: _Sdk, tag: ImportTag, sid: str | None = None) -> list[_Sdk]:
        """Returns what has the name of the tag, its domain or the id, oldest first."""
        marks = {tag.name, trunk_domain(tag.import_id), sid or tag.name}

        def is_ours(row: _Sdk) -> bool:
            domain = getattr(row, "domain_name", None)
            return not marks.isdisjoint((row.sid, row.friendly_name, domain))

        # Neither trunks nor credential lists can be filtered by name.
        list_all = partial(resource.list, page_size=_LARGEST_PAGE)
        rows = filter(is_ours, self._read(list_all, missing=ProviderUnavailable))
        return sorted(rows, key=lambda row: (str(row.date_created), row.sid))

    def _ours_if_any(self, resource: _Sdk, tag: ImportTag, sid: str | None) -> list[_Sdk]:
        """Returns nothing where a key may not even look and nothing is on record.

        Who may not look has not created either: an import that failed for this can be undone.
        """
        try:
            return self._ours(resource, tag, sid)
        except InsufficientPermission:
            if sid is not None:
                raise
            return []

    def _delete_trunk(self, row: _Sdk, failure: type[PermanentError]) -> None:
        trunk = self._trunks(row.sid)
        with suppress(NotFound):
            if self._read(lambda: trunk.phone_numbers.list(limit=1), missing=NotFound):
                raise failure(
                    "Another phone number uses the SIP trunk of this import. Move that number off "
                    "the trunk at Twilio, then try again."
                )
            for parts in (trunk.credentials_lists, trunk.origination_urls):
                for part in self._read(parts.list, missing=NotFound):
                    self._delete(part, failure)
        self._delete(row, failure)

    def _delete(self, row: _Sdk, failure: type[PermanentError]) -> None:
        refused = partial(
            failure,
            "Twilio refused to delete the SIP trunk of this import or its credential list. Remove "
            "at Twilio whatever still uses them, then try again.",
        )
        with suppress(NotFound):
            self._write(row.delete, refused=refused, missing=NotFound)

    def _require_own_login(self) -> None:
        if self._credentials.parent_account_sid is not None:
            # The paths of trunking.twilio.com name no account: it is the one that logs in.
            raise InsufficientPermission(
                "SIP trunks of a Twilio subaccount can only be reached with its own credentials. "
                "Give the subaccount's own auth token or API key instead of the parent account's."
            )

    @property
    def _trunks(self) -> _Sdk:
        trunking = self._client.trunking
        trunking.base_url = self._settings.twilio_trunking_base_url or trunking.base_url
        return trunking.v1.trunks

    def _log_in(self, user: str, secret: str) -> _Sdk:
        client = Client(
            user,
            secret,
            self._credentials.account_sid,
            http_client=self._http,
            # Not empty: the SDK would take an empty mapping for None and read os.environ.
            environment={"_": ""},
            user_agent_extensions=["trunkline"],
        )
        client.api.base_url = self._settings.twilio_api_base_url or client.api.base_url
        return client

    def _read(self, send: Callable[[], _T], *, missing: _Failure = InternalError) -> _T:
        result: _T = retrying()(
            self._call, send, write=False, refused=InternalError, missing=missing
        )
        return result

    def _write(
        self,
        send: Callable[[], _T],
        *,
        refused: _Failure = SipTrunkProvisionFailed,
        missing: _Failure = ProviderUnavailable,
    ) -> _T:
        return self._call(send, write=True, refused=refused, missing=missing)

    def _call(
        self, send: Callable[[], _T], *, write: bool, refused: _Failure, missing: _Failure
    ) -> _T:
        try:
            return send()
        except TrunklineError:
            raise
        except Exception as exc:  # noqa: BLE001 -- translate sorts out what the SDK lets through
            status, code = facts(exc)
            retry_after = parse_retry_after(self._http.retry_after, now=datetime.now(UTC))
            error = translate(
                exc, write=write, refused=refused, missing=missing, retry_after=retry_after
            )
            # What is gone is often what one hopes to find gone.
            log = _log.info if code == _NOT_FOUND_CODE else _log.warning
            log(
                "twilio call failed",
                attempt=str(self._attempt),
                write=write,
                status=status,
                vendor_code=code,
                vendor_request=self._http.request_id,
                cause=type(exc).__name__,
                error=error.code,
            )
        # Out here the SDK's exception, which holds the request and its login, is not even context.
        raise error


class Http(TwilioHttpClient):  # type: ignore[misc] # the SDK ships no types
    """The SDK's HTTP client with our limits, our lease and our name on every request."""

    def __init__(self, settings: Settings, attempt: Attempt) -> None:
        # The SDK logs URLs, and with them phone numbers, at INFO.
        silent = logging.Logger("silent", level=logging.CRITICAL)  # noqa: LOG001 -- of no tree
        super().__init__(logger=silent)
        # The SDK's own parameter takes one number; requests takes this.
        self.timeout = (settings.connect_timeout_seconds, settings.read_timeout_seconds)
        self._call_seconds = settings.call_seconds
        self._attempt = attempt
        #: Of the last answer: the SDK's exceptions drop the headers.
        self.retry_after: str | None = None
        self.request_id: str | None = None
        # No proxy and no .netrc of the environment: credentials go to Twilio only.
        self.session.trust_env = False
        # A session keeps cookies, so each account has its own. A connection carries nothing over
        # from one request to the next, and opening one costs 15 ms of CPU for TLS: all share them.
        for scheme in ("https://", "http://"):
            self.session.mount(scheme, _connections(os.getpid()))

    def request(
        self,
        method: str,
        url: str,
        params: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        **rest: object,
    ) -> Response:
        """Sends one request, if the lease outlives it."""
        self.retry_after = self.request_id = None
        self._attempt.lease.require(self._call_seconds)
        headers = {**(headers or {}), "X-Trunkline-Attempt": str(self._attempt)}
        answer = super().request(method, url, params, data, headers, **rest)
        self.retry_after = answer.headers.get("Retry-After")
        self.request_id = answer.headers.get("Twilio-Request-Id")
        # The SDK takes an empty answer for a success, and to a deletion any answer.
        no_content = answer.status_code == HTTPStatus.NO_CONTENT
        if answer.ok and not no_content and (method == "DELETE" or not answer.text):
            json.loads(answer.text)
        return answer


@lru_cache(maxsize=1)
def _connections(process: int) -> HTTPAdapter:
    """Returns the connections of a process: a fork must not use its parent's."""
    del process
    return HTTPAdapter(pool_maxsize=256)


_TOO_MANY: Final = (
    "The Twilio account has as many SIP trunks or credential lists as it may have. Delete one, or "
    "ask Twilio for more."
)
#: Vendor code or, where it is not listed, HTTP status → our error, and its sentence if its own says
#: too little. What is not listed depends on what was asked.
ERRORS: Final = MappingProxyType[int, tuple[type[TrunklineError], str]](
    {
        10001: (AccountSuspended, ""),
        10002: (
            InsufficientPermission,
            "A Twilio trial account may not do this. Upgrade it first.",
        ),
        20005: (AccountSuspended, ""),
        20008: (InvalidCredentials, "These are Twilio test credentials. Use the live ones."),
        20429: (ProviderRateLimited, ""),
        21239: (SipTrunkProvisionFailed, _TOO_MANY),
        21244: (SipTrunkProvisionFailed, _TOO_MANY),
        21481: (ProviderUnavailable, ""),  # a page's token is stale: the list changed meanwhile
        70051: (InsufficientPermission, ""),
        90010: (AccountSuspended, ""),
        401: (InvalidCredentials, ""),
        403: (InsufficientPermission, ""),
        408: (ProviderUnavailable, ""),
        429: (ProviderRateLimited, ""),
    }
)
#: No answer, or half of one: the request may have been heard.
_CUT_OFF: Final = (
    requests.ConnectionError,
    requests.Timeout,
    ChunkedEncodingError,
    ContentDecodingError,
)
#: The SDK takes the shape of a 2xx for granted, so nonsense fails wherever it is first used.
_NONSENSE: Final = (ValueError, KeyError, TypeError, AttributeError)


def translate(
    exc: Exception,
    *,
    write: bool,
    refused: _Failure = InternalError,
    missing: _Failure = InternalError,
    retry_after: float | None = None,
) -> TrunklineError:
    """Turns what the SDK raised into our error; the caller says what a 4xx and a 404 mean. Pure."""
    status, code = facts(exc)
    if status is None:
        return _unanswered(exc, write=write)
    kind, sentence = ERRORS.get(code or 0) or ERRORS.get(status) or (None, "")
    if kind is ProviderRateLimited:
        # "Never processed and always safe to retry": https://www.twilio.com/docs/api/errors/20429
        return ProviderRateLimited(retry_after=retry_after)
    if kind is None and code == _NOT_FOUND_CODE:
        return missing()
    # A 404 without Twilio's code comes from something in between that knows nothing of Twilio.
    if kind is None and status in range(400, 500) and status != HTTPStatus.NOT_FOUND:
        return refused()
    if kind is None or kind is ProviderUnavailable:
        return ProviderUnavailable(retry_after=retry_after, outcome_unknown=write)
    return kind(sentence)


def _unanswered(exc: Exception, *, write: bool) -> TrunklineError:
    if isinstance(exc, requests.RequestException):
        refused = any(
            isinstance(getattr(arg, "reason", None), NewConnectionError) for arg in exc.args
        )
        if refused or isinstance(exc, requests.ConnectTimeout):
            return ProviderUnavailable()  # it never left this machine
        known = isinstance(exc, _CUT_OFF)
    elif isinstance(exc, TwilioException):
        known = "deserialized" in str(exc)
    else:
        known = isinstance(exc, _NONSENSE)
    return ProviderUnavailable(outcome_unknown=write) if known else InternalError()


def facts(exc: Exception) -> tuple[int | None, int | None]:
    """Returns HTTP status and vendor code, as far as the exception knows them. Pure."""
    if isinstance(exc, TwilioRestException | TwilioServiceException):
        return _whole_number(exc.status), _whole_number(exc.code)
    match exc:
        case TwilioException(args=(_, Response() as answer)):
            # Of a list call; only its second argument tells what happened.
            with suppress(ValueError, AttributeError):
                return answer.status_code, _whole_number(json.loads(answer.text).get("code"))
            return answer.status_code, None
        case _:
            return None, None


def _whole_number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def trunk_domain(seed: str) -> str:
    """Returns the domain of a trunk; domains are unique among all of Twilio's customers. Pure."""
    return f"tl-{sha256(seed.encode()).hexdigest()[:20]}.pstn.twilio.com"


def _routing(row: _Sdk) -> Routing:
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


def _real(row: _Sdk, sid: str | None = None) -> _Sdk:
    """Lets an object with an id through, or the very one; anything else is no answer."""
    if not row.sid or sid not in (None, row.sid):
        raise ValueError("an answer about nothing, or about something else")
    return row
