"""Twilio: numbers of the 2010-04-01 API, and Elastic SIP trunks.

- Numbers: https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource
- Trunks: https://www.twilio.com/docs/sip-trunking/api
- Logins for termination: https://www.twilio.com/docs/voice/sip/api/sip-credentiallist-resource
- Credentials: https://www.twilio.com/docs/iam/api-keys, https://www.twilio.com/docs/iam/api/subaccounts
- Errors: https://www.twilio.com/docs/api/errors

A number carries its URLs itself, so there is no application to prepare, and SMS does not depend on
where voice goes. What each method promises is in ``Provider``; here is how Twilio keeps it, but for
the parts: credentials, what a number says (``_twilio_numbers``) and other products say of it
(``_twilio_advice``), trunks, webhooks, and the way to Twilio, which is in ``_twilio_wire``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final, Self

from twilio.base.exceptions import TwilioException

from worker.domain.calls import Forward
from worker.domain.errors import (
    AccountSuspended,
    InsufficientPermission,
    InvalidCredentials,
    NotFound,
    NumberNotOwned,
    SignaturesUnverifiable,
    WebhookSetupFailed,
)
from worker.domain.job import Attempt
from worker.domain.values import (
    E164,
    Account,
    CallbackUrls,
    Fields,
    ImportTag,
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
from worker.providers._twilio_advice import Advice
from worker.providers._twilio_credentials import TwilioCredentials
from worker.providers._twilio_numbers import (
    NEVER_EMPTY,
    PARTS,
    following_of,
    is_able,
    listed,
    no_such_page,
    page_after,
    refusal_of,
    routing_of,
    target_of,
)
from worker.providers._twilio_trunks import Trunks, planned
from worker.providers._twilio_webhooks import TwilioWebhooks
from worker.providers._twilio_wire import (
    INVALID_PAGE,
    Calls,
    Http,
    facts,
    log_in,
    real,
    text,
)
from worker.settings import Settings

#: A token as Twilio shows it; whom it does not show it to gets nothing, or a mask.
_TOKEN: Final = re.compile(r"[0-9a-f]{32}")
#: A key tells neither its kind nor its rights, and to try a write is out of the question.
_KEY: Final = (
    "Whether this API key may change the number only shows at the import. A restricted key needs "
    "the right to update phone numbers."
)


class Twilio:
    """One Twilio account during one attempt; not for several threads."""

    name: ClassVar[ProviderName] = ProviderName.TWILIO
    webhooks: ClassVar[Webhooks | None] = TwilioWebhooks()
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
            warnings = self._verify_token(given.auth_token.get_secret_value(), mode)
        else:
            warnings = (_KEY,)
        return Account(id=given.account_sid, credential_kind=kind, warnings=warnings)

    def _verify_token(self, token: str, mode: RoutingMode) -> tuple[str, ...]:
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
        # Webhooks are signed with the primary token, so that a secondary one passes every check and
        # then fails every call. Whom Twilio shows the primary one to is not documented.
        if given.can_verify_webhooks and account.auth_token != token:
            if mode is RoutingMode.WEBHOOK and _TOKEN.fullmatch(text(account.auth_token)):
                raise SignaturesUnverifiable(
                    "This is not the Twilio account's primary auth token, which signs webhooks. "
                    "Give the primary token, or use routing_mode sip_trunk."
                )
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
        refusal = refusal_of(row)
        if refusal is not None:
            raise refusal
        return OwnedNumber(
            id=str(row.sid),
            e164=number,
            country=number.region,
            voice=True,
            sms=is_able(row, "sms"),
            routing=routing_of(row),
        )

    def list_numbers(self, following: str | None, *, limit: int) -> NumberListing:
        """Asks for a page by the token of the page before it; the newest numbers come first."""
        page = {"page_size": limit, **page_after(following)}
        return self._calls.read(lambda: self._list(page))

    def _list(self, page: Mapping[str, object]) -> NumberListing:
        try:
            found = self._client.incoming_phone_numbers.page(**page)
        except TwilioException as exc:
            if "page_token" in page and facts(exc)[1] == INVALID_PAGE:
                raise no_such_page() from None
            raise
        return NumberListing(
            numbers=tuple(listed(row) for row in found), following=following_of(found.next_page_url)
        )

    def advise(self, number: OwnedNumber, *, sms: bool) -> tuple[str, ...]:
        """Looks at emergency address, bundle, region and, for SMS, Messaging Services."""
        advice = Advice(self._client, self._calls, self._settings)
        # Product hosts know an account by its login only; a parent's shows them the parent's.
        products = self._credentials.parent_account_sid is None
        return tuple(advice.of(number, sms=sms, products=products))

    def answer_url(self, fields: Fields) -> Forward | None:
        """Returns the voice URL of the number, or of its application."""
        target = self.target("voice", fields)
        if target.kind == "application":
            application = self._client.applications(target.value)
            try:
                row = self._calls.read(
                    lambda: real(application.fetch(), target.value), missing=NotFound
                )
            except NotFound:
                return None
            fields = {"voice_url": text(row.voice_url), "voice_method": text(row.voice_method)}
            target = self.target("voice", fields)
        if target.kind != "url":
            return None
        return Forward(url=target.value, method=fields.get("voice_method") or "POST")

    def read_routing(self, number_id: str) -> Routing | None:
        """Fetches the number; None if the account has it no more."""
        number = self._client.incoming_phone_numbers(number_id)
        try:
            row = self._calls.read(lambda: real(number.fetch(), number_id), missing=NumberNotOwned)
        except NumberNotOwned:
            return None
        return routing_of(row)

    def target(self, part: str, fields: Fields) -> Target:
        """Tells which field wins: a trunk over an application over a URL."""
        return target_of(part, fields)

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
        sent = {k: v for k, v in fields.items() if v or not NEVER_EMPTY.fullmatch(k)}
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

    def planned_objects(
        self, mode: RoutingMode, urls: CallbackUrls, trunk: TrunkPlan | None, *, sms: bool
    ) -> Mapping[str, Fields]:
        """Returns the trunk and its parts; URLs are the number's own."""
        del mode, urls, sms
        return {} if trunk is None else planned(trunk)

    def read_objects(self, tag: ImportTag, objects: Objects) -> Mapping[str, Fields | None]:
        """Reads the trunk with its parts, one by one."""
        del tag
        if "trunk" in objects:
            self._require_own_login()  # else it would look gone
        return self._trunks.read(objects)

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
