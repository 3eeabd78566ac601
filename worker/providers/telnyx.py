"""Telnyx: numbers, TeXML applications, messaging profiles and FQDN connections of the v2 API.

- Numbers: https://developers.telnyx.com/api-reference/phone-number-configurations
- Applications: https://developers.telnyx.com/api-reference/texml-applications
- SIP connections: https://developers.telnyx.com/api-reference/fqdn-connections
- Errors: https://developers.telnyx.com/development/api-fundamentals/api-errors

A number carries no URL. Its calls go to one connection, which is an application or a SIP connection
alike, and its messages to a messaging profile, whatever becomes of the calls. What each method
promises is in ``Provider``; here is how Telnyx keeps it.

The SDK costs a process 90 MB and, on a cold start, seconds: it is imported when it is first used.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache, partial
from hashlib import sha256
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Self, TypeAlias, TypeVar

import structlog
from pydantic import SecretStr, field_validator

from worker.domain.errors import (
    AccountSuspended,
    InsufficientPermission,
    InternalError,
    InvalidCredentials,
    NotFound,
    NumberNotActive,
    NumberNotOwned,
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
    Ownership,
    ProviderName,
    ProviderTrunk,
    Routing,
    RoutingMode,
    Target,
    TrunkPlan,
)
from worker.providers._core import Credentials, Record, retrying
from worker.providers._http import parse_retry_after
from worker.settings import Settings

if TYPE_CHECKING:
    import httpx

_T = TypeVar("_T")
_Sdk: TypeAlias = Any  # its types are not looked into: see pyproject.toml
_Failure: TypeAlias = Callable[[], TrunklineError]
_Note: TypeAlias = Callable[[str, _Sdk], None]

_log = structlog.get_logger()

#: Where outbound calls enter: https://sip.telnyx.com
TERMINATION_ADDRESS: Final = "sip.telnyx.com"
_BASE_URL: Final = "https://api.telnyx.com/v2"
_LARGEST_PAGE: Final = 250
_KEY_BYTES: Final = 32
_TEXML: Final = "texml_application"
_FQDN: Final = "fqdn_connection"
#: Part of a routing → its fields. "connection_type" tells what kind of thing "connection_id" names:
#: it is read from that thing and never written.
_VOICE: Final = ("connection_id", "connection_type")
_SMS: Final = ("messaging_profile_id",)


class _Kind(NamedTuple):
    """A kind of object that is made for an import."""

    #: Attribute of the SDK's client.
    resource: str
    #: The field that holds our name.
    name: str
    #: Arguments of the list call that narrow it down; some filters match more than the name.
    narrow: Callable[[str], Mapping[str, object]]


_KINDS: Final = MappingProxyType(
    {
        "application": _Kind(
            "texml_applications", "friendly_name", lambda it: {"filter": {"friendly_name": it}}
        ),
        "messaging_profile": _Kind("messaging_profiles", "name", lambda it: {"filter_name_eq": it}),
        "outbound_voice_profile": _Kind(
            "outbound_voice_profiles", "name", lambda it: {"filter": {"name": {"contains": it}}}
        ),
        "connection": _Kind(
            "fqdn_connections",
            "connection_name",
            lambda it: {"filter": {"connection_name": {"contains": it}}},
        ),
        # Of these the name is the id of the connection that they belong to.
        "fqdn": _Kind("fqdns", "connection_id", lambda it: {"filter": {"connection_id": it}}),
    }
)


class TelnyxCredentials(Credentials):
    """An API key, and the account's public key if webhooks are to be verified.

    Telnyx signs webhooks with Ed25519; the public key is shown in the portal only:
    https://developers.telnyx.com/development/api-fundamentals/webhooks/receiving-webhooks
    """

    api_key: SecretStr
    public_key: str | None = None

    @field_validator("api_key")
    @classmethod
    def _is_one_word(cls, value: SecretStr) -> SecretStr:
        # With anything else in it the request fails before it is sent, as if the network were down.
        if not re.fullmatch(r"[!-~]+", value.get_secret_value()):
            raise ValueError("must not be empty or contain spaces or special characters")
        return value

    @field_validator("public_key")
    @classmethod
    def _is_ed25519(cls, value: str | None) -> str | None:
        with suppress(binascii.Error, ValueError):
            if value is None or len(base64.b64decode(value, validate=True)) == _KEY_BYTES:
                return value
        raise ValueError("must be the public key of the Telnyx portal: 32 bytes in base64")

    @property
    def account_ref(self) -> str:
        """A fingerprint of the key: Telnyx has no account id to ask for."""
        return f"telnyx-{sha256(self.api_key.get_secret_value().encode()).hexdigest()[:16]}"

    @property
    def can_verify_webhooks(self) -> bool:
        """Whether the public key is among them."""
        return self.public_key is not None


class Telnyx:
    """One Telnyx account during one attempt; not for several threads."""

    name: ClassVar[ProviderName] = ProviderName.TELNYX
    credentials_model: ClassVar[type[Credentials]] = TelnyxCredentials
    ownership: ClassVar[Ownership] = Ownership.PROVEN
    modes: ClassVar[frozenset[RoutingMode]] = frozenset(RoutingMode)
    #: TeXML's <Sip> takes a user name and password; calls to an FQDN carry none.
    authenticating_modes: ClassVar[frozenset[RoutingMode]] = frozenset({RoutingMode.WEBHOOK})
    number_id_shape: ClassVar[str] = "[0-9]{1,32}"

    def __init__(
        self, credentials: TelnyxCredentials, settings: Settings, attempt: Attempt
    ) -> None:
        self._credentials = credentials
        self._settings = settings
        self._attempt = attempt
        self._client = _client(credentials.api_key.get_secret_value(), settings, attempt)

    @classmethod
    def connect(cls, credentials: Credentials, settings: Settings, attempt: Attempt) -> Self:
        """Returns an adapter for these credentials; makes no call."""
        assert isinstance(credentials, TelnyxCredentials)
        return cls(credentials, settings, attempt)

    @classmethod
    def notes(cls, mode: RoutingMode, *, sms: bool) -> tuple[str, ...]:
        """Returns nothing: SMS does not depend on where voice goes."""
        del mode, sms
        return ()

    def signalling_addresses(self) -> tuple[str, ...]:
        """Returns Telnyx's SIP proxies of all regions."""
        return self._settings.telnyx_signalling_addresses

    def verify_credentials(self, mode: RoutingMode) -> Account:
        """Lists what every import of the mode must read: scopes of a key cannot be asked for."""
        carrier = _KINDS["application" if mode is RoutingMode.WEBHOOK else "connection"]
        for resource in ("phone_numbers", carrier.resource):
            listing = getattr(self._client, resource).list
            self._read(lambda: _rows(listing(page_size=1)))  # noqa: B023 -- called at once
        return Account(id=self._credentials.account_ref, credential_kind="api_key")

    def find_number(self, number: E164, number_id: str | None) -> OwnedNumber:
        """Asks for ownership, which compares exactly; the list's filter finds parts of numbers."""
        verify = self._client.phone_numbers.actions.verify_ownership
        found = self._read(
            lambda: [
                (str(row.id), row.number_val_e164)
                for row in verify(phone_numbers=[number]).data.found
            ]
        )
        ids = [row_id for row_id, e164 in found if e164 == number]
        if not ids:
            # "Owned and in an editable state": one that is porting is not found there either.
            rows = self._list(
                self._client.phone_numbers.list, filter={"phone_number": number.removeprefix("+")}
            )
            ids = [str(row.id) for row in rows if row.phone_number == number]
        if not ids:
            raise NumberNotOwned
        if number_id not in (None, ids[0]):
            raise NumberNotOwned("The given number id belongs to another number of the account.")
        row = self._number(ids[0])
        if row.status != "active":
            raise NumberNotActive
        numbers = self._client.phone_numbers
        messaging = self._read(
            lambda: _real(numbers.messaging.retrieve(row.id)).features, missing=NumberNotOwned
        )
        voice = self._read(lambda: _real(numbers.voice.retrieve(row.id)), missing=NumberNotOwned)
        return OwnedNumber(
            id=str(row.id),
            e164=number,
            country=number.region,
            # Every Telnyx number takes calls: there is no capability to ask for.
            voice=True,
            sms=messaging is not None and messaging.sms is not None,
            routing=self._routing(row),
            warnings=_warnings(voice),
        )

    def read_routing(self, number_id: str) -> Routing | None:
        """Fetches the number and what it points at; None if the account has it no more."""
        try:
            row = self._number(number_id)
        except NumberNotOwned:
            return None
        return self._routing(row)

    def _number(self, number_id: str) -> _Sdk:
        retrieve = self._client.phone_numbers.retrieve
        return self._read(lambda: _real(retrieve(number_id), number_id), missing=NumberNotOwned)

    def _routing(self, row: _Sdk) -> Routing:
        connection, kind = str(row.connection_id or ""), ""
        if connection:
            retrieve = self._client.connections.retrieve
            with suppress(NotFound):
                found = self._read(
                    lambda: _real(retrieve(connection), connection), missing=NotFound
                )
                kind = str(found.record_type or "")
        profile = str(row.messaging_profile_id or "")
        return Routing(
            parts={
                "voice": dict(zip(_VOICE, (connection, kind), strict=True)),
                # The API says so of a number whose profile it could not look up.
                "sms": dict.fromkeys(_SMS, "" if profile == "UNAVAILABLE" else profile),
                "status": {},
            }
        )

    def target(self, part: str, fields: Fields) -> Target:
        """Tells an application from a SIP connection by what kind of thing it is."""
        if part == "sms":
            kind, value = "application", fields.get("messaging_profile_id", "")
        else:
            is_application = fields.get("connection_type", "").endswith("_application")
            kind = "application" if is_application else "connection"
            value = fields.get("connection_id", "")
        return Target(kind=kind, value=value) if value else NOWHERE

    def plan_webhooks(
        self, urls: CallbackUrls, objects: Objects, *, sms: bool
    ) -> Mapping[str, Fields]:
        """Returns our messaging profile; call status is the application's."""
        del urls
        profile = objects.get("messaging_profile")
        return {"sms": {"messaging_profile_id": profile}} if sms and profile else {}

    def plan_voice(self, mode: RoutingMode, urls: CallbackUrls, objects: Objects) -> Fields:
        """Returns our application or connection; nothing where none was ever made.

        Nothing, because "" would mean "on no connection", which the number may be for reasons of
        its owner's: undo would take that for ours.
        """
        del urls
        webhook = mode is RoutingMode.WEBHOOK
        made = objects.get("application" if webhook else "connection")
        kind = _TEXML if webhook else _FQDN
        return dict(zip(_VOICE, (made, kind), strict=True)) if made else {}

    def write_routing(self, number_id: str, fields: Fields) -> None:
        """Updates connection and messaging profile: two resources, so a request each."""
        assert fields.keys() <= {*_VOICE, *_SMS}, f"no such fields: {sorted(fields)}"
        numbers = self._client.phone_numbers
        if "connection_id" in fields:
            connection = fields["connection_id"]
            # That null takes a number off its connection is not documented. If it is refused the
            # undo stays open for an operator: to call it done would leave the number on a
            # connection of ours, which then could not be deleted either.
            refused = WebhookSetupFailed if connection else _cannot_detach
            update = partial(numbers.update, number_id, connection_id=connection or None)
            self._write(lambda: _real(update()), refused=refused, missing=NumberNotOwned)
        if "messaging_profile_id" in fields:
            # Here "" takes it off, and null is documented to change nothing.
            update = partial(
                numbers.messaging.update,
                number_id,
                messaging_profile_id=fields["messaging_profile_id"],
            )
            self._write(lambda: _real(update()), refused=WebhookSetupFailed, missing=NumberNotOwned)

    def prepare_application(
        self, tag: ImportTag, mode: RoutingMode, urls: CallbackUrls, *, sms: bool, record: Record
    ) -> Objects:
        """Makes the TeXML application of webhook mode, and the messaging profile of SMS."""
        objects: dict[str, str] = {}
        note = _noting(objects, record)
        have = partial(self._have, refused=WebhookSetupFailed, note=note)
        verifiable = self._credentials.can_verify_webhooks
        if mode is RoutingMode.WEBHOOK:
            status = {"status_callback": urls.status, "status_callback_method": "post"}
            wanted = {"active": True, "voice_url": urls.voice, "voice_method": "post"}
            have("application", tag.name, {**wanted, **(status if verifiable else {})})
        if sms and verifiable:
            profile = {
                "enabled": True,
                # An answer must reach whoever wrote, wherever that is.
                "whitelisted_destinations": ["*"],
                "webhook_url": urls.sms,
                "webhook_api_version": "2",
            }
            have("messaging_profile", tag.name, profile)
        return objects

    def remove_application(self, tag: ImportTag, objects: Objects) -> None:
        """Deletes the application and the messaging profile."""
        for kind in ("application", "messaging_profile"):
            for found in self._ids(kind, tag.name, objects):
                self._delete(kind, found, UndoFailed)

    def prepare_trunk(self, tag: ImportTag, plan: TrunkPlan, *, record: Record) -> ProviderTrunk:
        """Makes voice profile, connection with its login, and the FQDN that calls are sent to.

        https://docs.livekit.io/telephony/start/providers/telnyx/
        """
        objects: dict[str, str] = {}
        note = _noting(objects, record)
        have = partial(self._have, refused=SipTrunkProvisionFailed, note=note)
        wanted: dict[str, object] = {
            "active": True,
            "anchorsite_override": "Latency",
            "transport_protocol": "TLS" if plan.secure else "TCP",
            # The defaults leave out the caller's country code and the plus of the called number.
            # The two spellings are the API's.
            "inbound": {"ani_number_format": "+E.164", "dnis_number_format": "+e164"},
        }
        if plan.termination is not None:
            # Which countries may be called is left to the account's default (US and Canada) and
            # its owner: a wider profile is how toll fraud gets expensive.
            profile = have("outbound_voice_profile", tag.name, {})
            wanted["outbound"] = {
                "outbound_voice_profile_id": profile,
                "ip_authentication_method": "credential-authentication",
            }
            login = plan.termination
            wanted["extra_body"] = {"user_name": login.username, "password": login.password}
        connection = have("connection", tag.name, wanted)
        if plan.origination_host is not None:
            host, _, port = plan.origination_host.partition(":")
            number = int(port) if port else 5061 if plan.secure else 5060
            # Not "srv", which takes no port.
            have("fqdn", connection, {"fqdn": host, "dns_record_type": "a", "port": number})
        if plan.termination is None:
            return ProviderTrunk(objects=objects, termination_address=None)
        # Only now: until it was set anew, the connection may have used one of these.
        for spare in self._ours("outbound_voice_profile", tag.name):
            if spare != profile:
                self._delete("outbound_voice_profile", spare, SipTrunkProvisionFailed)
        return ProviderTrunk(objects=objects, termination_address=TERMINATION_ADDRESS)

    def remove_trunk(self, tag: ImportTag, objects: Objects) -> None:
        """Deletes FQDN, connection and voice profile, each after what uses it."""
        for kind in ("connection", "outbound_voice_profile"):
            for found in self._ids(kind, tag.name, objects):
                self._delete(kind, found, UndoFailed)

    def _have(
        self,
        kind: str,
        name: str,
        wanted: Mapping[str, object],
        *,
        refused: type[PermanentError],
        note: _Note,
    ) -> str:
        """Adopts the oldest of ours, deletes the others and sets what is wanted; or creates it.

        What is adopted is set, not compared: a password is not read back.
        """
        resource, field, _ = _KINDS[kind]
        objects = getattr(self._client, resource)
        wanted = {**wanted, field: name}
        found = self._ours(kind, name)
        if not found:
            try:
                row = self._write(lambda: _real(objects.create(**wanted)), refused=refused)
            except refused:
                # A write of an earlier attempt may have landed just now and taken a unique value.
                found = self._ours(kind, name)
                if not found:
                    raise
            else:
                note(kind, row.id)
                return str(row.id)
        ours, *others = found
        note(kind, ours)
        for other in others:
            if kind != "outbound_voice_profile":  # which something may use as yet
                self._delete(kind, other, refused)
        self._write(lambda: _real(objects.update(ours, **wanted), ours), refused=refused)
        return ours

    def _ours(self, kind: str, name: str) -> list[str]:
        """Returns the ids of what has exactly this name, oldest first."""
        resource, field, narrow = _KINDS[kind]
        listed = self._list(getattr(self._client, resource).list, **narrow(name))
        rows = [row for row in listed if getattr(row, field) == name]
        # Dates have seconds only; the newest of a second is listed first.
        rows.reverse()
        rows.sort(key=lambda row: str(row.created_at))
        return [str(row.id) for row in rows]

    def _ids(self, kind: str, name: str, objects: Objects) -> list[str]:
        """Returns what has the name and, if its owner renamed it, what is on record."""
        recorded = [objects[kind]] if kind in objects else []
        try:
            found = self._ours(kind, name)
        except InsufficientPermission:
            # Who may not look has not created either: an import that failed for this can be undone.
            if recorded:
                raise
            return []
        return list(dict.fromkeys([*found, *recorded]))

    def _delete(self, kind: str, found: str, failure: type[PermanentError]) -> None:
        what = kind.replace("_", " ")
        users: list[_Sdk] = []
        if kind in {"application", "connection"}:
            users = self._list(self._client.phone_numbers.list, filter={"connection_id": found})
        elif kind == "messaging_profile":
            users = self._list(self._client.messaging_profiles.list_phone_numbers, found)
        if users:
            raise failure(
                f"Another phone number uses the {what} of this import. Move that number off it at "
                "Telnyx, then try again."
            )
        if kind == "connection":
            for fqdn in self._ours("fqdn", found):
                self._delete("fqdn", fqdn, failure)
        refused = partial(
            failure,
            f"Telnyx refused to delete the {what} of this import. Remove at Telnyx whatever still "
            "uses it, then try again.",
        )
        delete = getattr(self._client, _KINDS[kind].resource).delete
        with suppress(NotFound):
            self._write(lambda: _real(delete(found), found), refused=refused, missing=NotFound)

    def _list(self, listing: Callable[..., _Sdk], *args: str, **filters: object) -> list[_Sdk]:
        def every_page() -> list[_Sdk]:
            pages = listing(*args, page_size=_LARGEST_PAGE, **filters).iter_pages()
            return [row for page in pages for row in _rows(page)]

        try:
            # An id in the path may be gone; a list itself cannot.
            return self._read(every_page, missing=NotFound if args else ProviderUnavailable)
        except NotFound:
            return []

    def _read(self, send: Callable[[], _T], *, missing: _Failure = ProviderUnavailable) -> _T:
        result: _T = retrying()(
            self._call, send, write=False, refused=InternalError, missing=missing
        )
        return result

    def _write(
        self, send: Callable[[], _T], *, refused: _Failure, missing: _Failure = ProviderUnavailable
    ) -> _T:
        return self._call(send, write=True, refused=refused, missing=missing)

    def _call(
        self, send: Callable[[], _T], *, write: bool, refused: _Failure, missing: _Failure
    ) -> _T:
        try:
            return send()
        except Exception as exc:  # noqa: BLE001 -- translate sorts out what the SDK lets through
            cause = exc.__cause__
            if isinstance(cause, TrunklineError):
                error = cause  # the lease, which is asked where the SDK sees network errors only
            else:
                error = translate(
                    exc, write=write, refused=refused, missing=missing, now=datetime.now(UTC)
                )
                self._report(exc, error, write=write)
        # Out here the SDK's exception, which holds the request and its key, is not even context.
        raise error

    def _report(self, exc: Exception, error: TrunklineError, *, write: bool) -> None:
        status, code = facts(exc)
        # What is gone is often what one hopes to find gone.
        log = _log.info if status == HTTPStatus.NOT_FOUND else _log.warning
        log(
            "telnyx call failed",
            attempt=str(self._attempt),
            write=write,
            status=status,
            vendor_code=code,
            vendor_request=_headers(exc).get("x-request-id"),
            cause=type(exc.__cause__ or exc).__name__,
            error=error.code,
        )


def _client(key: str, settings: Settings, attempt: Attempt) -> _Sdk:
    import httpx  # noqa: PLC0415 -- with the SDK, see above
    import telnyx  # noqa: PLC0415

    # At DEBUG it logs bodies, and with them passwords; TELNYX_LOG would ask it to.
    logging.getLogger("telnyx").setLevel(logging.WARNING)
    timeout = telnyx.Timeout(
        settings.read_timeout_seconds, connect=settings.connect_timeout_seconds
    )

    def ask_lease(_: httpx.Request) -> None:
        attempt.lease.require(settings.call_seconds)

    client = telnyx.Telnyx(
        # What is None is taken from os.environ. With a client id the SDK would log in by OAuth.
        api_key=key,
        public_key="",
        client_id="",
        client_secret="",
        base_url=settings.telnyx_api_base_url or _BASE_URL,
        # The SDK repeats a POST, too, and without an idempotency key.
        max_retries=0,
        timeout=timeout,
        # A client keeps cookies, so each account has its own. Connections carry nothing over from
        # one request to the next: all share them. So this client must never be closed.
        http_client=httpx.Client(
            transport=_connections(os.getpid()),
            timeout=timeout,
            # No proxy and no .netrc of the environment: credentials go to Telnyx only.
            trust_env=False,
            follow_redirects=False,
            event_hooks={"request": [ask_lease]},
        ),
    )
    # Not by the parameter, which only adds to TELNYX_CUSTOM_HEADERS of the environment.
    client._custom_headers = {"X-Trunkline-Attempt": str(attempt)}  # noqa: SLF001
    return client


@lru_cache(maxsize=1)
def _connections(process: int) -> httpx.BaseTransport:
    """Returns the connections of a process: a fork must not use its parent's."""
    import httpx  # noqa: PLC0415 -- with the SDK, see above

    del process
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=32)
    return httpx.HTTPTransport(trust_env=False, limits=limits)


#: Vendor code or, where it is not listed, HTTP status → our error. What is not listed depends on
#: what was asked. https://developers.telnyx.com/development/api-fundamentals/api-errors
ERRORS: Final = MappingProxyType[int, type[TrunklineError]](
    {
        10001: NumberNotActive,
        10007: ProviderUnavailable,
        10008: ProviderUnavailable,
        10009: InvalidCredentials,
        10010: InsufficientPermission,
        10011: ProviderRateLimited,
        401: InvalidCredentials,
        403: InsufficientPermission,
        408: ProviderUnavailable,
        429: ProviderRateLimited,
    }
)
#: No code tells a suspended account from a narrow key, only words, which are not documented either.
_SUSPENDED: Final = re.compile(
    r"account\b.*\b(suspended|disabled|blocked|closed|inactive|not active)", re.IGNORECASE
)
#: The SDK takes the shape of a 2xx for granted, so nonsense fails wherever it is first used.
_NONSENSE: Final = (ValueError, KeyError, TypeError, AttributeError)


def translate(
    exc: Exception,
    *,
    now: datetime,
    write: bool,
    refused: _Failure = InternalError,
    missing: _Failure = InternalError,
) -> TrunklineError:
    """Turns what the SDK raised into our error; the caller says what a 4xx and a 404 mean. Pure."""
    status, code = facts(exc)
    if status is None:
        return _unanswered(exc, write=write)
    wait = parse_retry_after(_headers(exc).get("retry-after"), now=now)
    kind = ERRORS.get(code or 0) or ERRORS.get(status)
    if kind is ProviderRateLimited:
        # https://developers.telnyx.com/development/api-fundamentals/rate-limiting: in seconds
        reset = parse_retry_after(_headers(exc).get("x-ratelimit-reset"), now=now)
        return ProviderRateLimited(retry_after=reset if wait is None else wait)
    if kind is InsufficientPermission and _SUSPENDED.search(_detail(exc)):
        return AccountSuspended()
    # A 404 without Telnyx's code comes from something in between that knows nothing of Telnyx.
    by_nobody = status == HTTPStatus.NOT_FOUND and code is None
    if kind is None and status in range(400, 500) and not by_nobody:
        return missing() if status == HTTPStatus.NOT_FOUND else refused()
    if kind is None or kind is ProviderUnavailable:
        return ProviderUnavailable(retry_after=wait, outcome_unknown=write)
    return kind()


def _unanswered(exc: Exception, *, write: bool) -> TrunklineError:
    import httpx  # noqa: PLC0415 -- with the SDK, see above
    import telnyx  # noqa: PLC0415

    cause = exc.__cause__ if isinstance(exc, telnyx.APIConnectionError) else exc
    # The key does not go into a header, which is built before anything is sent.
    if isinstance(cause, httpx.LocalProtocolError | UnicodeEncodeError):
        return InvalidCredentials()
    if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return ProviderUnavailable()  # it never left this machine
    known = isinstance(cause, (httpx.RequestError, telnyx.APIResponseValidationError, *_NONSENSE))
    return ProviderUnavailable(outcome_unknown=write) if known else InternalError()


def facts(exc: Exception) -> tuple[int | None, int | None]:
    """Returns HTTP status and vendor code, as far as the exception knows them. Pure."""
    status = getattr(exc, "status_code", None)
    code = str(_first_error(exc).get("code") or "")
    return (
        status if isinstance(status, int) and status >= HTTPStatus.MULTIPLE_CHOICES else None,
        int(code) if code.isascii() and code.isdigit() else None,
    )


def _first_error(exc: Exception) -> Mapping[str, object]:
    match getattr(exc, "body", None):
        case {"errors": [dict() as first, *_]}:
            return first
        case _:
            return {}


def _detail(exc: Exception) -> str:
    return str(_first_error(exc).get("detail") or "")


def _headers(exc: Exception) -> Mapping[str, str]:
    return getattr(getattr(exc, "response", None), "headers", None) or {}


def _noting(objects: dict[str, str], record: Record) -> _Note:
    def note(kind: str, found: _Sdk) -> None:
        objects[kind] = str(found)
        record(dict(objects))

    return note


def _cannot_detach() -> UndoFailed:
    return UndoFailed(
        "The number had no connection before, and Telnyx does not let it be taken off ours. Take "
        "the number off its connection in the Telnyx portal, then try again."
    )


def _warnings(voice: _Sdk) -> tuple[str, ...]:
    """Tells what bends calls away before they reach any connection."""
    warnings = []
    forwarding = voice.call_forwarding
    if forwarding is not None and forwarding.call_forwarding_enabled and forwarding.forwards_to:
        if forwarding.forwarding_type == "on-failure":
            warnings.append(
                "Calls that fail are forwarded to another number at Telnyx, so a caller may reach "
                "that one instead of the agent."
            )
        else:
            warnings.append(
                "All calls are forwarded to another number at Telnyx, so none reaches the agent "
                "until you switch call forwarding off there."
            )
    if voice.translated_number:
        warnings.append(
            "Telnyx rewrites the called number to another one, so calls may not be recognised as "
            "this number's until you clear the translated number there."
        )
    return tuple(warnings)


def _rows(page: _Sdk) -> list[_Sdk]:
    """Lets a list through; anything else would pass for an empty one, but is no answer."""
    rows = page.data
    if not isinstance(rows, list) or not all(row.id for row in rows):
        raise TypeError("an answer that lists nothing")
    return rows


def _real(answer: _Sdk, found: str | None = None) -> _Sdk:
    """Lets an object with an id through, or the very one; anything else is no answer."""
    row = answer.data
    if not row.id or found not in (None, str(row.id)):
        raise ValueError("an answer about nothing, or about something else")
    return row
