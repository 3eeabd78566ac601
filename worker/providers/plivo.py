"""Plivo: numbers and applications of the v1 API, and Zentrunk, its SIP trunking.

- Numbers: https://www.plivo.com/docs/numbers/api/account-phone-number
- Applications: https://www.plivo.com/docs/account/api/application
- Zentrunk: https://www.plivo.com/docs/sip-trunking/api/overview

A number has one target for calls and messages alike, its ``app_id``: an application, which carries
the URLs, or an inbound trunk of Zentrunk. SMS follows the calls.

Each import has an application of its own, not each account: nothing is shared, so that removing it
needs no counting of who else uses it, and two imports of one account cannot race for it.

The SDK's client sends, its resources mostly do not: they know nothing of Zentrunk, send a failed
call of an application again at once, and put defaults in the place of what an update leaves out.
Beside Twilio's its import costs a process 7 MB and 50 ms, so it stands at the top like any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Self, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlsplit

import plivo
import structlog
from pydantic import AfterValidator, SecretStr, field_validator

from worker.domain.errors import (
    InsufficientPermission,
    InternalError,
    InvalidCredentials,
    NotFound,
    NumberNotActive,
    NumberNotOwned,
    NumberNotVoiceCapable,
    PermanentError,
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
from worker.providers._plivo_wire import Failure, Refused, Wire, translate
from worker.settings import Settings

_T = TypeVar("_T")
_Sdk: TypeAlias = Any  # the SDK ships no types
#: Kind of object → the ids of those that carry an import's name, the oldest first.
_Found: TypeAlias = Mapping[str, list[str]]

_log = structlog.get_logger()

_LARGEST_PAGE: Final = 20
_NO_TRUNKS: Final = (
    "SIP trunking (Zentrunk) is not enabled for this Plivo account. Ask Plivo to enable it, or "
    "import the number without a SIP trunk of Plivo's."
)
_SMS_ON_TRUNK: Final = (
    "At Plivo SMS goes where calls go: while the number is on the SIP trunk, SMS to it is lost."
)
_SMS_WITH_CALLS: Final = (
    "At Plivo SMS goes where calls go: an import for outbound calls only receives none."
)
_SMS_MOVES: Final = (
    "At Plivo SMS goes where calls go: while calls come here, SMS to the number no longer reaches "
    "the application that answered it before."
)
_NOTHING_TO_RESTORE: Final = (
    "The number has no application at Plivo, and Plivo documents no way to put it back to none. "
    "Before its release, choose another application for it at Plivo."
)
_CANNOT_CLEAR: Final = (
    "The number had no application at Plivo before the import, and Plivo documents no way to take "
    "one away. Choose another application for the number at Plivo, then try again."
)
_IN_USE: Final = (
    "Another phone number uses the application or SIP trunk of this import at Plivo. Move that "
    "number to another one, then try again."
)
_KEPT: Final = (
    "Plivo refused to delete the application or SIP trunk of this import. Remove at Plivo whatever "
    "still uses it, then try again."
)


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """A kind of object that is made for an import."""

    path: tuple[str, ...]
    id: str
    name: str = "name"
    #: What tells our objects of one path apart.
    suffix: str = ""
    #: What is set once and for all.
    fixed: Mapping[str, object] = field(default_factory=dict)


#: The kinds, in the order in which they may be deleted: trunks before what they refer to.
_KINDS: Final = MappingProxyType(
    {
        "application": _Kind(path=("Application",), id="app_id", name="app_name"),
        "inbound_trunk": _Kind(
            path=("Zentrunk", "Trunk"),
            id="trunk_id",
            suffix="-inbound",
            fixed={"trunk_direction": "inbound"},
        ),
        "outbound_trunk": _Kind(
            path=("Zentrunk", "Trunk"),
            id="trunk_id",
            suffix="-outbound",
            fixed={"trunk_direction": "outbound"},
        ),
        "origination_uri": _Kind(path=("Zentrunk", "URI"), id="uri_uuid"),
        "credential": _Kind(path=("Zentrunk", "Credential"), id="credential_uuid"),
    }
)
_TRUNKING: Final = tuple(key for key in _KINDS if key != "application")


@dataclass(frozen=True, kw_only=True)
class _Number:
    """What is used of a number."""

    digits: str
    active: bool
    voice: bool
    sms: bool
    app_id: str

    @classmethod
    def read(cls, row: _Sdk) -> Self:
        """Takes it from the SDK's object, which has whatever came."""
        return cls(
            digits=_filled(row, "number"),
            active=bool(row.active),
            voice=bool(row.voice_enabled),
            sms=bool(row.sms_enabled),
            # /v1/Account/{auth_id}/Application/{app_id}/ or …/Zentrunk/Trunk/{trunk_id}/
            app_id=(row.application or "").rstrip("/").rpartition("/")[2],
        )

    @property
    def routing(self) -> Routing:
        """Of the parts only voice has settings."""
        return Routing(parts={"voice": {"app_id": self.app_id}, "sms": {}, "status": {}})


def _auth_id(value: str) -> str:
    if re.fullmatch(r"(M|S)A[A-Z0-9]{18}", value) is None:
        raise ValueError("must be MA or SA followed by 18 capital letters and digits")
    return value


class PlivoCredentials(Credentials):
    """Auth id and token of the account or subaccount that holds the number."""

    auth_id: Annotated[str, AfterValidator(_auth_id)]
    auth_token: SecretStr

    @field_validator("auth_token")
    @classmethod
    def _is_one_word(cls, value: SecretStr) -> SecretStr:
        if re.fullmatch(r"[!-~]+", value.get_secret_value()) is None:
            raise ValueError("must be one word without spaces or special characters")
        return value

    @property
    def account_ref(self) -> str:
        """The auth id."""
        return self.auth_id

    @property
    def can_verify_webhooks(self) -> bool:
        """Always: Plivo signs with the auth token."""
        return True


class Plivo:
    """One Plivo account during one attempt; not for several threads, for the SDK's client is not.

    A number's id is its digits.
    """

    name: ClassVar[ProviderName] = ProviderName.PLIVO
    credentials_model: ClassVar[type[Credentials]] = PlivoCredentials
    ownership: ClassVar[Ownership] = Ownership.PROVEN
    modes: ClassVar[frozenset[RoutingMode]] = frozenset(RoutingMode)
    #: An origination URI takes a login; <User> of Plivo's XML has no place for one.
    authenticating_modes: ClassVar[frozenset[RoutingMode]] = frozenset({RoutingMode.SIP_TRUNK})
    number_id_shape: ClassVar[str] = "[0-9]{5,15}"

    def __init__(self, credentials: PlivoCredentials, settings: Settings, attempt: Attempt) -> None:
        self._credentials = credentials
        self._settings = settings
        self._attempt = attempt
        # Neither is ever empty: the SDK would look for them in the environment.
        client = plivo.RestClient(
            credentials.auth_id,
            credentials.auth_token.get_secret_value(),
            timeout=(settings.connect_timeout_seconds, settings.read_timeout_seconds),
        )
        # No proxy and no .netrc of the environment: credentials go to Plivo only.
        client.session.trust_env = False
        client.session.mount("https://", Wire(settings, attempt))
        self._client: _Sdk = client

    @classmethod
    def connect(cls, credentials: Credentials, settings: Settings, attempt: Attempt) -> Self:
        """Returns an adapter for these credentials; makes no call."""
        assert isinstance(credentials, PlivoCredentials)
        return cls(credentials, settings, attempt)

    @classmethod
    def notes(cls, mode: RoutingMode, *, sms: bool) -> tuple[str, ...]:
        """Tells what becomes of SMS, which goes where calls go."""
        if mode is RoutingMode.SIP_TRUNK:
            return (_SMS_ON_TRUNK,)
        return (_SMS_WITH_CALLS if sms else _SMS_MOVES,)

    def signalling_addresses(self) -> tuple[str, ...]:
        """Returns what the operator has set: Plivo publishes no list."""
        return self._settings.plivo_signalling_addresses

    def verify_credentials(self, mode: RoutingMode) -> Account:
        """Fetches the account; looks whether it may use trunks, if it has to."""
        auth_id = self._credentials.auth_id
        account = self._client.account
        self._read(lambda: _real(account.get(), "auth_id", auth_id), missing=InvalidCredentials)
        if mode is RoutingMode.SIP_TRUNK:
            try:
                self._read(partial(self._page, _KINDS["inbound_trunk"].path, {"limit": 1}, str))
            except InsufficientPermission:
                raise InsufficientPermission(_NO_TRUNKS) from None
        return Account(id=auth_id, credential_kind="auth_token")

    def find_number(self, number: E164, number_id: str | None) -> OwnedNumber:
        """Fetches the number by its digits."""
        digits = number.removeprefix("+")
        if number_id not in (None, digits):
            raise NumberNotOwned("The given number id belongs to another number.")
        found = self._fetch_number(digits)
        if not found.active:
            raise NumberNotActive
        if not found.voice:
            raise NumberNotVoiceCapable
        return OwnedNumber(
            id=digits,
            e164=number,
            country=number.region,
            voice=True,
            sms=found.sms,
            routing=found.routing,
            warnings=() if found.app_id else (_NOTHING_TO_RESTORE,),
        )

    def read_routing(self, number_id: str) -> Routing | None:
        """Fetches the number; None if the account has it no more."""
        try:
            return self._fetch_number(number_id).routing
        except NumberNotOwned:
            return None

    def target(self, part: str, fields: Fields) -> Target:
        """Tells the application, which may be a trunk.

        A trunk's id is given as ``app_id`` too. How a number shows a trunk is not documented, so
        nothing depends on telling the two apart.
        """
        value = fields.get("app_id", "") if part == "voice" else ""
        return Target(kind="application", value=value) if value else NOWHERE

    def plan_webhooks(
        self, urls: CallbackUrls, objects: Objects, *, sms: bool
    ) -> Mapping[str, Fields]:
        """Returns {}: the application carries our URLs, and moves with voice."""
        del urls, objects, sms
        return {}

    def plan_voice(self, mode: RoutingMode, urls: CallbackUrls, objects: Objects) -> Fields:
        """Returns our trunk or our application."""
        del urls
        kind = "inbound_trunk" if mode is RoutingMode.SIP_TRUNK else "application"
        return {"app_id": objects.get(kind, "")}

    def write_routing(self, number_id: str, fields: Fields) -> None:
        """Sets the application, always: without one Plivo would choose the account's default."""
        assert fields.keys() == {"app_id"}, f"no such fields: {sorted(fields)}"
        app_id = fields["app_id"]
        if not app_id:
            # What an empty app_id does is not documented, and to leave it out assigns the default
            # application, which may be anything. Better to stop and say so than to guess.
            raise UndoFailed(_CANNOT_CLEAR)
        self._write(
            lambda: self._client.numbers.update(number_id, app_id=app_id),
            refused=WebhookSetupFailed,
            missing=NumberNotOwned,
        )

    def prepare_application(
        self, tag: ImportTag, mode: RoutingMode, urls: CallbackUrls, *, sms: bool, record: Record
    ) -> Objects:
        """Makes the application that carries our URLs; none for a number that will be on a trunk.

        An update puts every setting that is not sent back to its default, so all that we set are
        sent each time, and those that we want empty never.
        """
        if mode is RoutingMode.SIP_TRUNK:
            return {}
        wanted = {
            "answer_url": urls.voice,
            "answer_method": "POST",
            "hangup_url": urls.status,
            "hangup_method": "POST",
            "default_number_app": False,
            "default_endpoint_app": False,
        }
        if sms:
            wanted |= {"message_url": urls.sms, "message_method": "POST"}
        objects, note = _noting(record)
        find = partial(self._find, ("application",), tag, app_name=tag.name)
        have = partial(
            self._have, "application", tag, wanted=wanted, note=note, refused=WebhookSetupFailed
        )
        found = find()
        self._delete_surplus(found, WebhookSetupFailed)
        try:
            have(found=found)
        except WebhookSetupFailed:
            # A write of an earlier attempt may have landed just now and taken the name.
            found = find()
            if not found["application"]:
                raise
            have(found=found)
        return objects

    def remove_application(self, tag: ImportTag, objects: Objects) -> None:
        """Deletes the application."""
        found = self._find(("application",), tag, app_name=tag.name)
        self._delete(_with_recorded(found, objects), UndoFailed)

    def prepare_trunk(self, tag: ImportTag, plan: TrunkPlan, *, record: Record) -> ProviderTrunk:
        """Makes the URI before the trunk that refers to it, the login before the one it opens."""
        try:
            found = self._find(_TRUNKING, tag)
        except InsufficientPermission:
            raise SipTrunkProvisionFailed(_NO_TRUNKS) from None
        self._delete_surplus(found, SipTrunkProvisionFailed)
        objects, note = _noting(record)

        def have(key: str, **wanted: object) -> str:
            return self._have(key, tag, found, wanted, note)

        on = {"trunk_status": "enabled", "secure": plan.secure}
        if plan.origination_host is not None:
            transport = "tls" if plan.secure else "tcp"
            login: dict[str, object] = {"authentication_needed": plan.origination_login is not None}
            if plan.origination_login is not None:
                login["username"] = plan.origination_login.username
                login["password"] = plan.origination_login.password
            uri = have(
                "origination_uri", uri=f"{plan.origination_host};transport={transport}", **login
            )
            have("inbound_trunk", primary_uri_uuid=uri, **on)
        address = None
        if plan.termination is not None:
            credential = have(
                "credential",
                username=plan.termination.username,
                password=plan.termination.password,
            )
            trunk = have("outbound_trunk", credential_uuid=credential, **on)
            path = (*_KINDS["outbound_trunk"].path, trunk)
            address = self._read(
                lambda: _filled(self._client.request("GET", path), "trunk_domain"),
                missing=ProviderUnavailable,
            )
        return ProviderTrunk(objects=objects, termination_address=address)

    def remove_trunk(self, tag: ImportTag, objects: Objects) -> None:
        """Deletes the trunks, then the URI and the login that they refer to."""
        try:
            found = self._find(_TRUNKING, tag)
        except InsufficientPermission:
            # Who may not look has not created either: an import that failed for this can be undone.
            if objects.keys().isdisjoint(_TRUNKING):
                return
            raise
        self._delete(_with_recorded(found, objects), UndoFailed)

    def _fetch_number(self, digits: str) -> _Number:
        get = self._client.numbers.get
        return self._read(
            lambda: _Number.read(_real(get(digits), "number", digits)), missing=NumberNotOwned
        )

    def _find(self, keys: Iterable[str], tag: ImportTag, **filters: str) -> _Found:
        """Compares names exactly: Plivo filters only applications, and does not say how."""
        kinds = {key: _KINDS[key] for key in keys}
        rows = {
            path: self._list(path, partial(_name_and_id, kind), **filters)
            for path, kind in {kind.path: kind for kind in kinds.values()}.items()
        }
        return {
            key: [id_ for name, id_ in rows[kind.path] if name == tag.name + kind.suffix]
            for key, kind in kinds.items()
        }

    def _list(self, path: tuple[str, ...], pick: Callable[[_Sdk], _T], **filters: str) -> list[_T]:
        """Returns what is picked of every row, the oldest first, as far as Plivo's order goes."""
        found: dict[_T, None] = {}
        query: dict[str, object] | None = {**filters, "limit": _LARGEST_PAGE, "offset": 0}
        while query is not None:
            send = partial(self._page, path, query, pick)
            rows, following = self._read(send, missing=ProviderUnavailable)
            # A row that moved to the next page meanwhile is there twice.
            found |= dict.fromkeys(rows)
            query = following if following != query else None  # a cursor that stands still
        return list(reversed(found))

    def _page(
        self, path: tuple[str, ...], query: Mapping[str, object], pick: Callable[[_Sdk], _T]
    ) -> tuple[list[_T], dict[str, object] | None]:
        answer = self._client.request("GET", path, dict(query))
        following = urlsplit(answer.meta.next or "").query
        # It holds an offset or a cursor, which does not go together with our offset.
        rest = {name: value for name, value in query.items() if name != "offset"}
        return (
            [pick(row) for row in answer.objects],
            {**rest, **dict(parse_qsl(following))} if following else None,
        )

    def _have(
        self,
        key: str,
        tag: ImportTag,
        found: _Found,
        wanted: Mapping[str, object],
        note: Callable[[str, str], None],
        *,
        refused: Failure = SipTrunkProvisionFailed,
    ) -> str:
        """Adopts ours and sets everything again, or creates it; returns its id.

        Nothing is compared first: an update without a change harms nobody, and passwords are never
        shown.
        """
        kind, send = _KINDS[key], self._client.request
        if found[key]:
            id_ = found[key][0]
            note(key, id_)
            self._write(lambda: send("POST", (*kind.path, id_), dict(wanted)), refused=refused)
            return id_
        body = {kind.name: tag.name + kind.suffix, **kind.fixed, **wanted}
        id_ = self._write(lambda: _filled(send("POST", kind.path, body), kind.id), refused=refused)
        note(key, id_)
        return id_

    def _delete_surplus(self, found: _Found, failure: type[PermanentError]) -> None:
        self._delete({key: ids[1:] for key, ids in found.items()}, failure)

    def _delete(self, doomed: _Found, failure: type[PermanentError]) -> None:
        """Deletes objects, if no number uses one of them; what is gone already is done."""
        targets = {*doomed.get("application", ()), *doomed.get("inbound_trunk", ())}
        # What becomes of the numbers of a deleted application or trunk is not documented, and no
        # filter finds them: to lose nobody's calls, all numbers are looked at, 20 a request.
        if targets and not targets.isdisjoint(self._app_ids_in_use()):
            raise failure(_IN_USE)
        for key in (key for key in _KINDS if key in doomed):
            # SIP endpoints that somebody gave to our application stay.
            body = {"cascade": False} if key == "application" else None
            for id_ in doomed[key]:
                send = partial(self._client.request, "DELETE", (*_KINDS[key].path, id_), body)
                with suppress(NotFound):
                    self._write(send, refused=partial(failure, _KEPT), missing=NotFound)

    def _app_ids_in_use(self) -> set[str]:
        rows = self._list(("Number",), _Number.read)
        return {row.app_id for row in rows}

    def _read(self, send: Callable[[], _T], *, missing: Failure = InternalError) -> _T:
        result: _T = retrying()(
            self._call, send, write=False, refused=InternalError, missing=missing
        )
        return result

    def _write(
        self, send: Callable[[], _T], *, refused: Failure, missing: Failure = ProviderUnavailable
    ) -> _T:
        return self._call(send, write=True, refused=refused, missing=missing)

    def _call(
        self, send: Callable[[], _T], *, write: bool, refused: Failure, missing: Failure
    ) -> _T:
        try:
            return send()
        except TrunklineError:
            raise
        except Exception as exc:  # noqa: BLE001 -- translate sorts out what the SDK lets through
            error = translate(
                exc, write=write, refused=refused, missing=missing, now=datetime.now(UTC)
            )
            status, request = (exc.status, exc.request) if isinstance(exc, Refused) else (None, "")
            # What is gone is often what one hopes to find gone.
            log = _log.info if status == HTTPStatus.NOT_FOUND else _log.warning
            log(
                "plivo call failed",
                attempt=str(self._attempt),
                write=write,
                status=status,
                vendor_request=request,
                cause=type(exc).__name__,
                error=error.code,
            )
        # Out here the SDK's exception, which holds the request and its login, is not even context.
        raise error


def _name_and_id(kind: _Kind, row: _Sdk) -> tuple[str | None, str]:
    return getattr(row, kind.name, None), _filled(row, kind.id)


def _filled(answer: _Sdk, name: str) -> str:
    value = getattr(answer, name)
    if not value:
        raise ValueError("an answer about nothing")
    return str(value)


def _real(row: _Sdk, name: str, value: str) -> _Sdk:
    """Lets only an answer about the very thing through."""
    if str(getattr(row, name)).removeprefix("+") != value:
        raise ValueError("an answer about something else")
    return row


def _with_recorded(found: _Found, objects: Objects) -> _Found:
    """Adds what is on record and was renamed by hand."""
    return {
        key: list(dict.fromkeys([*ids, *([objects[key]] if key in objects else [])]))
        for key, ids in found.items()
    }


def _noting(record: Record) -> tuple[dict[str, str], Callable[[str, str], None]]:
    """Returns what has been made so far, and how more of it is recorded."""
    objects: dict[str, str] = {}

    def note(key: str, id_: str) -> None:
        objects[key] = id_
        record(dict(objects))

    return objects, note
