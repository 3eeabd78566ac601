"""Telnyx: numbers, TeXML applications, messaging profiles and FQDN connections of the v2 API.

- Numbers: https://developers.telnyx.com/api-reference/phone-number-configurations
- Applications: https://developers.telnyx.com/api-reference/texml-applications
- SIP connections: https://developers.telnyx.com/api-reference/fqdn-connections
- Errors: https://developers.telnyx.com/development/api-fundamentals/api-errors

A number carries no URL. Its calls go to one connection, which is an application or a SIP connection
alike, and its messages to a messaging profile, whatever becomes of the calls. What each method
promises is in ``Provider``; here is how Telnyx keeps it. How requests are sent and what failures
mean is in ``_telnyx_wire``, how objects are found, made and deleted in ``_telnyx_objects``, with
which settings in ``_telnyx_settings``, in which order in ``_telnyx_applications`` and
``_telnyx_trunks``, what a number's own settings mean in ``_telnyx_numbers``, and its webhooks in
``_telnyx_webhooks``.

The SDK costs a process 90 MB and, on a cold start, seconds: it is imported when it is first used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import ClassVar, Final, Self

from worker.domain.calls import Forward
from worker.domain.errors import (
    InsufficientPermission,
    InvalidRequest,
    NotFound,
    NumberNotActive,
    NumberNotOwned,
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
from worker.providers import _telnyx_settings
from worker.providers._core import Credentials, Record, Webhooks
from worker.providers._telnyx_applications import prepare_application, remove_application
from worker.providers._telnyx_credentials import TelnyxCredentials
from worker.providers._telnyx_numbers import advice, bends, warnings
from worker.providers._telnyx_objects import KINDS, ImportObjects
from worker.providers._telnyx_trunks import prepare_trunk, remove_trunk
from worker.providers._telnyx_webhooks import TelnyxWebhooks
from worker.providers._telnyx_wire import Sdk, Wire, real, rows_of
from worker.settings import Settings

_TEXML: Final = "texml_application"
_FQDN: Final = "fqdn_connection"
#: Part of a routing → its fields. "connection_type" tells what kind of thing "connection_id" names:
#: it is read from that thing and never written.
_VOICE: Final = ("connection_id", "connection_type")
_SMS: Final = ("messaging_profile_id",)
#: Pages of a list are counted from one; the first needs no name.
_PAGE: Final = re.compile(r"[1-9][0-9]{0,5}")


class Telnyx:
    """One Telnyx account during one attempt; not for several threads."""

    name: ClassVar[ProviderName] = ProviderName.TELNYX
    webhooks: ClassVar[Webhooks | None] = TelnyxWebhooks()
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
        self._wire = Wire(credentials.api_key.get_secret_value(), settings, attempt)
        self._made = ImportObjects(self._wire)

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
        webhook = mode is RoutingMode.WEBHOOK
        # A trunk has a voice profile if calls go out, which is not known here.
        made = ("application", "application_voice_profile") if webhook else ("connection",)
        for resource in ("phone_numbers", *(KINDS[kind].resource for kind in made)):
            listing = getattr(self._wire.client, resource).list
            self._wire.read(lambda: rows_of(listing(page_size=1)))  # noqa: B023 -- called at once
        return Account(id=self._credentials.account_ref, credential_kind="api_key")

    def find_number(self, number: E164, number_id: str | None) -> OwnedNumber:
        """Asks for ownership, which compares exactly; the list's filter finds parts of numbers."""
        verify = self._wire.client.phone_numbers.actions.verify_ownership
        found = self._wire.read(
            lambda: [
                (str(row.id), row.number_val_e164)
                for row in verify(phone_numbers=[number]).data.found
            ]
        )
        ids = [row_id for row_id, e164 in found if e164 == number]
        if not ids:
            # "Owned and in an editable state": one that is porting is not found there either.
            rows = self._wire.list_all(
                self._wire.client.phone_numbers.list,
                filter={"phone_number": number.removeprefix("+")},
            )
            ids = [str(row.id) for row in rows if row.phone_number == number]
        if not ids:
            raise NumberNotOwned
        if number_id not in (None, ids[0]):
            raise NumberNotOwned("The given number id belongs to another number of the account.")
        row = self._number(ids[0])
        if row.status != "active":
            raise NumberNotActive
        numbers = self._wire.client.phone_numbers
        messaging = self._wire.read(
            lambda: real(numbers.messaging.retrieve(row.id)).features, missing=NumberNotOwned
        )
        voice = self._wire.read(
            lambda: real(numbers.voice.retrieve(row.id)), missing=NumberNotOwned
        )
        return OwnedNumber(
            id=str(row.id),
            e164=number,
            country=number.region,
            # Every Telnyx number takes calls: there is no capability to ask for.
            voice=True,
            sms=_carries_sms(messaging),
            routing=self._routing(row),
            bends=bends(voice),
            warnings=warnings(number, voice),
        )

    def list_numbers(self, following: str | None, *, limit: int) -> NumberListing:
        """Lists a page of numbers, newest first, with what each is on and whether it takes SMS.

        One read for the page, one for the messaging settings of all its numbers, and one for each
        connection that is on it: how many numbers there are matters little.
        """
        if following is not None and _PAGE.fullmatch(following) is None:
            raise InvalidRequest("This page does not exist. Start again with the first one.")
        number = int(following or 1)
        numbers = self._wire.client.phone_numbers

        def one_page() -> tuple[list[Sdk], int]:
            page = numbers.list(page_number=number, page_size=limit)
            return rows_of(page), int(page.meta.total_pages)

        rows, pages = self._wire.read(one_page)
        capable: set[str] = set()
        if rows:
            wanted = ",".join(row.phone_number for row in rows)
            settings = self._wire.list_all(numbers.messaging.list, filter_phone_number=wanted)
            capable = {row.phone_number for row in settings if _carries_sms(row.features)}
        kinds: dict[str, str] = {}
        for connection in dict.fromkeys(str(row.connection_id or "") for row in rows):
            kinds[connection] = self._kind_of(connection)
        return NumberListing(
            numbers=tuple(
                ListedNumber(
                    id=str(row.id),
                    phone_number=row.phone_number,
                    country=row.country_iso_alpha2 or None,
                    voice=True,
                    sms=row.phone_number in capable,
                    target=self.target("voice", self._voice(row, kinds)),
                    refusal=None if row.status == "active" else NumberNotActive(),
                )
                for row in rows
            ),
            following=str(number + 1) if number < pages else None,
        )

    def advise(self, number: OwnedNumber, *, sms: bool) -> tuple[str, ...]:
        """Reads the number's own settings beside its routing.

        What documents its country asks for is not among them: the API tells what may be asked
        for, but of an active number not whether it was given.
        """
        del sms
        try:
            return advice(self._number(number.id))
        except (InsufficientPermission, NumberNotOwned):
            return ()

    def answer_url(self, fields: Fields) -> Forward | None:
        """Returns the voice URL of a TeXML application: no other kind answers with TeXML."""
        if fields.get("connection_type") != _TEXML:
            return None
        found, retrieve = fields["connection_id"], self._wire.client.texml_applications.retrieve
        try:
            row = self._wire.read(lambda: real(retrieve(found), found), missing=NotFound)
        except NotFound:
            return None
        if not row.voice_url:
            return None
        return Forward(url=row.voice_url, method="GET" if row.voice_method == "get" else "POST")

    def read_routing(self, number_id: str) -> Routing | None:
        """Fetches the number and what it points at; None if the account has it no more."""
        try:
            row = self._number(number_id)
        except NumberNotOwned:
            return None
        return self._routing(row)

    def _number(self, number_id: str) -> Sdk:
        retrieve = self._wire.client.phone_numbers.retrieve
        return self._wire.read(lambda: real(retrieve(number_id), number_id), missing=NumberNotOwned)

    def _routing(self, row: Sdk) -> Routing:
        connection = str(row.connection_id or "")
        profile = str(row.messaging_profile_id or "")
        return Routing(
            parts={
                "voice": self._voice(row, {connection: self._kind_of(connection)}),
                # The API says so of a number whose profile it could not look up.
                "sms": dict.fromkeys(_SMS, "" if profile == "UNAVAILABLE" else profile),
                "status": {},
            }
        )

    def _voice(self, row: Sdk, kinds: Mapping[str, str]) -> Fields:
        connection = str(row.connection_id or "")
        return dict(zip(_VOICE, (connection, kinds[connection]), strict=True))

    def _kind_of(self, connection: str) -> str:
        """Returns what kind of thing a connection is; "" for none and for one that is gone."""
        retrieve = self._wire.client.connections.retrieve
        if connection:
            with suppress(NotFound):
                found = self._wire.read(
                    lambda: real(retrieve(connection), connection), missing=NotFound
                )
                return str(found.record_type or "")
        return ""

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
        numbers = self._wire.client.phone_numbers
        if "connection_id" in fields:
            connection = fields["connection_id"]
            # That null takes a number off its connection is not documented. If it is refused the
            # undo stays open for an operator: to call it done would leave the number on a
            # connection of ours, which then could not be deleted either.
            refused = WebhookSetupFailed if connection else _cannot_detach
            update = partial(numbers.update, number_id, connection_id=connection or None)
            self._wire.write(lambda: real(update()), refused=refused, missing=NumberNotOwned)
        if "messaging_profile_id" in fields:
            # Here "" takes it off, and null is documented to change nothing.
            update = partial(
                numbers.messaging.update,
                number_id,
                messaging_profile_id=fields["messaging_profile_id"],
            )
            self._wire.write(
                lambda: real(update()), refused=WebhookSetupFailed, missing=NumberNotOwned
            )

    def prepare_application(
        self, tag: ImportTag, mode: RoutingMode, urls: CallbackUrls, *, sms: bool, record: Record
    ) -> Objects:
        """Makes webhook mode's TeXML application and voice profile, and SMS's messaging profile."""
        planned = self._application(mode, urls, sms=sms)
        return prepare_application(self._made, tag, planned, record=record)

    def remove_application(self, tag: ImportTag, objects: Objects) -> None:
        """Deletes application, its outbound voice profile, and messaging profile."""
        remove_application(self._made, tag, objects)

    def prepare_trunk(self, tag: ImportTag, plan: TrunkPlan, *, record: Record) -> ProviderTrunk:
        """Makes voice profile, connection with its login, and the FQDN that calls are sent to."""
        return prepare_trunk(self._made, tag, plan, record=record)

    def planned_objects(
        self, mode: RoutingMode, urls: CallbackUrls, trunk: TrunkPlan | None, *, sms: bool
    ) -> Mapping[str, Fields]:
        """Returns what ``prepare_application`` and ``prepare_trunk`` send."""
        made = {} if trunk is None else _telnyx_settings.trunk(trunk)
        return {**self._application(mode, urls, sms=sms), **made}

    def read_objects(self, tag: ImportTag, objects: Objects) -> Mapping[str, Fields | None]:
        """Fetches each object by its id."""
        del tag
        found: dict[str, Fields | None] = {}
        for kind in filter(objects.__contains__, KINDS):
            row = self._made.read(kind, objects[kind])
            found[kind] = None if row is None else _telnyx_settings.shown(kind, row, objects)
        return found

    def _application(
        self, mode: RoutingMode, urls: CallbackUrls, *, sms: bool
    ) -> Mapping[str, Fields]:
        verifiable = self._credentials.can_verify_webhooks
        made: dict[str, Fields] = {}
        if mode is RoutingMode.WEBHOOK:
            made |= _telnyx_settings.application(urls, verifiable=verifiable)
        if sms and verifiable:
            made["messaging_profile"] = _telnyx_settings.messaging_profile(urls)
        return made

    def remove_trunk(self, tag: ImportTag, objects: Objects) -> None:
        """Deletes FQDN, connection and voice profile, each after what uses it."""
        remove_trunk(self._made, tag, objects)


def _cannot_detach() -> UndoFailed:
    return UndoFailed(
        "The number had no connection before, and Telnyx does not let it be taken off ours. Take "
        "the number off its connection in the Telnyx portal, then try again."
    )


def _carries_sms(features: Sdk) -> bool:
    return features is not None and features.sms is not None
