"""What else Twilio knows of a number that its owner should hear of before an import.

- Emergency addresses: https://www.twilio.com/docs/sip-trunking/emergency-calling
- Bundles: https://www.twilio.com/docs/phone-numbers/regulatory/api/bundles
- Messaging Services: https://www.twilio.com/docs/messaging/api/service-resource
- Regions: https://www.twilio.com/docs/global-infrastructure/inbound-call-processing

Each of these is another product under a host of its own, which a key may be barred from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Final

from worker.domain.errors import InsufficientPermission, InvalidCredentials, NotFound
from worker.domain.values import OwnedNumber
from worker.providers._twilio_wire import Calls, Sdk, real, text
from worker.settings import Settings

#: Where Twilio registers emergency addresses: the countries of the page above.
_WITH_ADDRESSES: Final = ("US", "CA", "GB")
#: A status that is not here is one that says nothing is wrong, or one that we do not know.
_EMERGENCY: Final = MappingProxyType(
    {
        "unregistered": "The number has no emergency address at Twilio. Register one there if "
        "emergency calls may be made from it; Twilio charges for those made without.",
        "pending-registration": "Twilio is still registering the number's emergency address. "
        "Emergency calls may not reach the right place until it has.",
        "registration-failure": "Twilio could not register the number's emergency address. "
        "Correct the address there.",
    }
)
_APPROVED: Final = "twilio-approved"
_BUNDLE: Final = MappingProxyType(
    {
        "draft": "has not been submitted. Submit it at Twilio",
        "pending-review": "is awaiting review",
        "in-review": "is under review",
        "twilio-rejected": "was rejected. Correct it at Twilio",
        "provisionally-approved": "is approved for the time being only. Complete it at Twilio",
    }
)
#: The region of an API without a region in its host name, and so of what we set.
_OUR_REGION: Final = "us1"
#: No call tells which service a number is in: each is asked, and an account may have hundreds.
_SERVICES_ASKED: Final = 20
_LARGEST_PAGE: Final = 1000


class Advice:
    """The reads of one number, during one attempt."""

    def __init__(self, client: Sdk, calls: Calls, settings: Settings) -> None:
        self._calls = calls
        self._numbers = client.incoming_phone_numbers
        for product in ("numbers", "messaging", "routes"):
            domain = getattr(client, product)
            url = getattr(settings, f"twilio_{product}_base_url")
            domain.base_url = url or domain.base_url
        self._bundles = client.numbers.v2.regulatory_compliance.bundles
        self._services = client.messaging.v1.services
        self._routes = client.routes.v2.phone_numbers

    def of(self, number: OwnedNumber, *, sms: bool, products: bool) -> Iterator[str]:
        """Gives a sentence for each thing that is not as it should be.

        ``products`` says whether the login is the account's own: other products know no other.
        """
        row = self._look(lambda: real(self._numbers(number.id).fetch(), number.id))
        if row is not None:
            yield from self._of_emergencies(number, row)
            yield from self._of_rules(row, products=products)
        if products:
            yield from self._of_region(number)
            if sms:
                yield from self._of_messaging(number)

    def _of_emergencies(self, number: OwnedNumber, row: Sdk) -> Iterator[str]:
        sentence = _EMERGENCY.get(text(row.emergency_address_status))
        if number.country in _WITH_ADDRESSES and sentence:
            yield sentence

    def _of_rules(self, row: Sdk, *, products: bool) -> Iterator[str]:
        asked_for = text(row.address_requirements) not in ("", "none")
        if asked_for and not row.address_sid and not row.bundle_sid:
            yield (
                "Twilio asks for an address with this number and has none. Give it there, or "
                "Twilio may take the number back."
            )
        if not row.bundle_sid or not products:
            return
        sid = row.bundle_sid
        bundle = self._look(lambda: real(self._bundles(sid).fetch(), sid))
        if bundle is not None and bundle.status != _APPROVED:
            state = _BUNDLE.get(text(bundle.status), "is not approved")
            yield (
                f"The number's regulatory bundle {state}. Twilio may take a number back whose "
                "bundle is not approved."
            )

    def _of_region(self, number: OwnedNumber) -> Iterator[str]:
        route = self._look(lambda: self._route(number))
        region = "" if route is None else text(route.voice_region)
        if region not in ("", _OUR_REGION):
            yield (
                f"Twilio processes calls to this number in its region {region}, where nothing of "
                f"this import applies. Set the number's routing to {_OUR_REGION} at Twilio."
            )

    def _route(self, number: OwnedNumber) -> Sdk:
        route = self._routes(number.e164).fetch()
        if route.phone_number != number.e164:
            raise ValueError("an answer about another number")
        return route

    def _of_messaging(self, number: OwnedNumber) -> Iterator[str]:
        services = self._look(lambda: self._services.list(page_size=_LARGEST_PAGE)) or []
        # The others let the number's own SMS URL answer.
        overriding = [row.sid for row in services if not row.use_inbound_webhook_on_number]
        for sid in overriding[:_SERVICES_ASKED]:
            if self._is_sender(sid, number):
                yield (
                    f"SMS to this number goes where its Messaging Service {sid} sends it, not to "
                    "us. Set that service to defer to the sender's webhook at Twilio."
                )
                return  # a number is in one service at most
        if len(overriding) > _SERVICES_ASKED:
            yield (
                "The account has too many Messaging Services to look whether one of them holds "
                "this number. If one does, set it to defer to the sender's webhook at Twilio."
            )

    def _is_sender(self, service: str, number: OwnedNumber) -> bool:
        sender = self._services(service).phone_numbers(number.id)
        return self._look(lambda: real(sender.fetch(), number.id)) is not None

    def _look(self, send: Callable[[], Sdk]) -> Sdk:
        """Returns None for what is not there, and for what these credentials may not look up."""
        try:
            return self._calls.read(send, missing=NotFound, refused=NotFound)
        except (NotFound, InsufficientPermission, InvalidCredentials):
            return None
