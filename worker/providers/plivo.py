"""Plivo: the adapter, with the numbers and applications of the v1 API.

- Numbers: https://www.plivo.com/docs/numbers/api/account-phone-number
- Applications: https://www.plivo.com/docs/account/api/application

Zentrunk, its SIP trunking, is in _plivo_zentrunk.py; what an import sets on its objects in
_plivo_settings.py; how those are found, adopted and deleted in _plivo_objects.py; what a number's
owner should know in _plivo_advice.py; how requests are sent and failures told apart in
_plivo_wire.py; Plivo's own requests to us in _plivo_webhooks.py.

A number has one target for calls and messages alike, its ``app_id``: an application, which carries
the URLs, or an inbound trunk of Zentrunk. SMS follows the calls.

Each import has an application of its own, not each account: nothing is shared, so that removing it
needs no counting of who else uses it, and two imports of one account cannot race for it.

The SDK's client sends, its resources mostly do not: they know nothing of Zentrunk, send a failed
call of an application again at once, and put defaults in the place of what an update leaves out.
It is imported when it is first used: processes that start often, such as commands, need it rarely.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final, Self

from worker.domain.calls import Forward
from worker.domain.errors import (
    InsufficientPermission,
    InvalidCredentials,
    InvalidPhoneNumber,
    InvalidRequest,
    NumberNotActive,
    NumberNotOwned,
    NumberNotVoiceCapable,
    PermanentError,
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
    ListedNumber,
    NumberListing,
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
from worker.providers._core import Credentials, Record, Webhooks
from worker.providers._plivo_advice import advice
from worker.providers._plivo_credentials import PlivoCredentials
from worker.providers._plivo_objects import KINDS, OwnObjects, noting, with_recorded
from worker.providers._plivo_settings import application, found, planned
from worker.providers._plivo_webhooks import PlivoWebhooks
from worker.providers._plivo_wire import LARGEST_PAGE, Calls, Sdk, Wire, filled, real
from worker.providers._plivo_zentrunk import Zentrunk
from worker.settings import Settings

_NUMBERS: Final = ("Number",)
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


@dataclass(frozen=True, kw_only=True)
class _Number:
    """What is used of a number."""

    digits: str
    active: bool
    voice: bool
    sms: bool
    app_id: str

    @classmethod
    def read(cls, row: Sdk) -> Self:
        """Takes it from the SDK's object, which has whatever came."""
        return cls(
            digits=filled(row, "number"),
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

    @property
    def refusal(self) -> PermanentError | None:
        """Why it takes no calls."""
        if not self.active:
            return NumberNotActive()
        return None if self.voice else NumberNotVoiceCapable()

    @property
    def e164(self) -> E164 | None:
        """None for a short code."""
        with suppress(InvalidPhoneNumber):
            return E164.parse(f"+{self.digits}")
        return None


class Plivo:
    """One Plivo account during one attempt; not for several threads, for the SDK's client is not.

    A number's id is its digits.
    """

    name: ClassVar[ProviderName] = ProviderName.PLIVO
    webhooks: ClassVar[Webhooks | None] = PlivoWebhooks()
    credentials_model: ClassVar[type[Credentials]] = PlivoCredentials
    ownership: ClassVar[Ownership] = Ownership.PROVEN
    modes: ClassVar[frozenset[RoutingMode]] = frozenset(RoutingMode)
    #: An origination URI takes a login, and so does <User> of Plivo's XML:
    #: https://www.plivo.com/docs/voice/concepts/sip-authentication
    authenticating_modes: ClassVar[frozenset[RoutingMode]] = frozenset(RoutingMode)
    number_id_shape: ClassVar[str] = "[0-9]{5,15}"

    def __init__(self, credentials: PlivoCredentials, settings: Settings, attempt: Attempt) -> None:
        import plivo  # noqa: PLC0415

        self._credentials = credentials
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
        self._client: Sdk = client
        self._calls = Calls(client, attempt)
        self._own = OwnObjects(self._calls, partial(_app_ids_in_use, self._calls))
        self._zentrunk = Zentrunk(self._calls, self._own)

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
        """Returns none: in both modes a call logs in."""
        return ()

    def verify_credentials(self, mode: RoutingMode) -> Account:
        """Fetches the account; looks whether it may use trunks, if it has to."""
        auth_id = self._credentials.auth_id
        account = self._client.account
        self._calls.read(
            lambda: real(account.get(), "auth_id", auth_id), missing=InvalidCredentials
        )
        if mode is RoutingMode.SIP_TRUNK:
            self._zentrunk.require()
        return Account(id=auth_id, credential_kind="auth_token")

    def find_number(self, number: E164, number_id: str | None) -> OwnedNumber:
        """Fetches the number by its digits."""
        digits = number.removeprefix("+")
        if number_id not in (None, digits):
            raise NumberNotOwned("The given number id belongs to another number.")
        row = self._fetch_number(digits)
        if row.refusal is not None:
            raise row.refusal
        return OwnedNumber(
            id=digits,
            e164=number,
            country=number.region,
            voice=True,
            sms=row.sms,
            routing=row.routing,
            warnings=() if row.app_id else (_NOTHING_TO_RESTORE,),
        )

    def list_numbers(self, following: str | None, *, limit: int) -> NumberListing:
        """Lists at most 20 numbers, which is Plivo's largest page; ``following`` is an offset."""
        if following is not None and re.fullmatch(r"[0-9]{1,9}", following) is None:
            raise InvalidRequest("That is no page of this listing. Start again at its first page.")
        offset = int(following or 0)
        query = {"limit": min(limit, LARGEST_PAGE), "offset": offset}
        rows, more = self._calls.read(partial(self._calls.page, _NUMBERS, query, _Number.read))
        return NumberListing(
            numbers=tuple(map(self._listed, rows)),
            following=str(offset + len(rows)) if more and rows else None,
        )

    def advise(self, number: OwnedNumber, *, sms: bool) -> tuple[str, ...]:
        """Fetches the number again, for what its country and its carriers ask to be registered."""
        get, digits = self._client.numbers.get, number.id
        try:
            row = self._calls.read(
                lambda: real(get(digits), "number", digits), missing=NumberNotOwned
            )
        except (InsufficientPermission, NumberNotOwned):
            return ()
        return advice(row, sms=sms)

    def answer_url(self, fields: Fields) -> Forward | None:
        """Fetches the application; a trunk is none, so that its id is looked up in vain."""
        app_id = fields.get("app_id", "")
        row = self._own.fetch("application", app_id) if app_id else None
        if row is None or not row.answer_url:
            return None
        return Forward(url=row.answer_url, method=row.answer_method or "POST")

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
        self._calls.write(
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
            **application(urls, sms=sms),
            "default_number_app": False,
            "default_endpoint_app": False,
        }
        objects, note = noting(record)
        find = partial(self._own.find, ("application",), tag, app_name=tag.name)
        have = partial(
            self._own.have, "application", tag, wanted=wanted, note=note, refused=WebhookSetupFailed
        )
        there = find()
        self._own.delete_surplus(there, WebhookSetupFailed)
        try:
            have(found=there)
        except WebhookSetupFailed:
            # A write of an earlier attempt may have landed just now and taken the name.
            there = find()
            if not there["application"]:
                raise
            have(found=there)
        return objects

    def remove_application(self, tag: ImportTag, objects: Objects) -> None:
        """Deletes the application."""
        there = self._own.find(("application",), tag, app_name=tag.name)
        self._own.delete(with_recorded(there, objects), UndoFailed)

    def prepare_trunk(self, tag: ImportTag, plan: TrunkPlan, *, record: Record) -> ProviderTrunk:
        """Makes the trunks of Zentrunk and what they refer to."""
        return self._zentrunk.prepare(tag, plan, record=record)

    def planned_objects(
        self, mode: RoutingMode, urls: CallbackUrls, trunk: TrunkPlan | None, *, sms: bool
    ) -> Mapping[str, Fields]:
        """Returns the application, unless the number will be on a trunk, and Zentrunk's objects."""
        return planned(mode, urls, trunk, sms=sms)

    def read_objects(self, tag: ImportTag, objects: Objects) -> Mapping[str, Fields | None]:
        """Fetches each by its id; a trunk tells whether it still refers to ours."""
        del tag
        rows = {key: self._own.fetch(key, id_) for key, id_ in objects.items() if key in KINDS}
        return {
            key: None if row is None else found(KINDS[key], row, objects)
            for key, row in rows.items()
        }

    def remove_trunk(self, tag: ImportTag, objects: Objects) -> None:
        """Deletes the trunks, then what they referred to."""
        self._zentrunk.remove(tag, objects)

    def _fetch_number(self, digits: str) -> _Number:
        get = self._client.numbers.get
        return self._calls.read(
            lambda: _Number.read(real(get(digits), "number", digits)), missing=NumberNotOwned
        )

    def _listed(self, row: _Number) -> ListedNumber:
        return ListedNumber(
            id=row.digits,
            phone_number=row.e164 or row.digits,
            country=row.e164.region if row.e164 else None,
            voice=row.voice,
            sms=row.sms,
            target=self.target("voice", row.routing.parts["voice"]),
            refusal=row.refusal,
        )


def _app_ids_in_use(calls: Calls) -> set[str]:
    rows = calls.list_all(_NUMBERS, _Number.read)
    return {row.app_id for row in rows}
