"""Telnyx: numbers, TeXML applications, messaging profiles and FQDN connections of the v2 API.

- Numbers: https://developers.telnyx.com/api-reference/phone-number-configurations
- Applications: https://developers.telnyx.com/api-reference/texml-applications
- SIP connections: https://developers.telnyx.com/api-reference/fqdn-connections
- Errors: https://developers.telnyx.com/development/api-fundamentals/api-errors

A number carries no URL. Its calls go to one connection, which is an application or a SIP connection
alike, and its messages to a messaging profile, whatever becomes of the calls. What each method
promises is in ``Provider``; here is how Telnyx keeps it. How requests are sent and what failures
mean is in ``_telnyx_wire``, how objects are found, made and deleted in ``_telnyx_objects``, and
what a SIP trunk consists of in ``_telnyx_trunks``.

The SDK costs a process 90 MB and, on a cold start, seconds: it is imported when it is first used.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import ClassVar, Final, Self

from pydantic import SecretStr, field_validator

from worker.domain.errors import (
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
from worker.providers._telnyx_objects import KINDS, ImportObjects, noting
from worker.providers._telnyx_trunks import prepare_trunk, remove_trunk
from worker.providers._telnyx_wire import Sdk, Wire, real, rows_of
from worker.settings import Settings

_KEY_BYTES: Final = 32
_TEXML: Final = "texml_application"
_FQDN: Final = "fqdn_connection"
#: Part of a routing → its fields. "connection_type" tells what kind of thing "connection_id" names:
#: it is read from that thing and never written.
_VOICE: Final = ("connection_id", "connection_type")
_SMS: Final = ("messaging_profile_id",)
#: Countries that an outbound voice profile allows if nothing is said: see ``_telnyx_trunks``.
_CALLED_BY_DEFAULT: Final = frozenset({"US", "CA"})


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
        carrier = KINDS["application" if mode is RoutingMode.WEBHOOK else "connection"]
        for resource in ("phone_numbers", carrier.resource):
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
            sms=messaging is not None and messaging.sms is not None,
            routing=self._routing(row),
            bends=_bends(voice),
            warnings=_warnings(number, voice),
        )

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
        connection, kind = str(row.connection_id or ""), ""
        if connection:
            retrieve = self._wire.client.connections.retrieve
            with suppress(NotFound):
                found = self._wire.read(
                    lambda: real(retrieve(connection), connection), missing=NotFound
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
        """Makes the TeXML application of webhook mode, and the messaging profile of SMS."""
        objects: dict[str, str] = {}
        note = noting(objects, record)
        have = partial(self._made.have, refused=WebhookSetupFailed, note=note)
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
            for found in self._made.ids(kind, tag.name, objects):
                self._made.delete(kind, found, UndoFailed)

    def prepare_trunk(self, tag: ImportTag, plan: TrunkPlan, *, record: Record) -> ProviderTrunk:
        """Makes voice profile, connection with its login, and the FQDN that calls are sent to."""
        return prepare_trunk(self._made, tag, plan, record=record)

    def remove_trunk(self, tag: ImportTag, objects: Objects) -> None:
        """Deletes FQDN, connection and voice profile, each after what uses it."""
        remove_trunk(self._made, tag, objects)


def _cannot_detach() -> UndoFailed:
    return UndoFailed(
        "The number had no connection before, and Telnyx does not let it be taken off ours. Take "
        "the number off its connection in the Telnyx portal, then try again."
    )


def _bends(voice: Sdk) -> Fields:
    """What bends calls away before any connection, and of which kind it is."""
    forwarding = voice.call_forwarding
    enabled = forwarding is not None and bool(forwarding.call_forwarding_enabled)
    return {
        "forwarding_type": str(forwarding.forwarding_type or "") if enabled else "",
        "forwards_to": str(forwarding.forwards_to or "") if enabled else "",
        "translated_number": str(voice.translated_number or ""),
    }


def _warnings(number: E164, voice: Sdk) -> tuple[str, ...]:
    """Tells what bends calls away before they reach any connection, and where none can go."""
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
    if number.region not in _CALLED_BY_DEFAULT:
        # Whether calls go out at all is not known here; where they may go is the voice profile's.
        warnings.append(
            "If this import makes outbound calls: its outbound voice profile at Telnyx allows "
            "calls to the US and Canada only, the default there, until you add other countries."
        )
    return tuple(warnings)
