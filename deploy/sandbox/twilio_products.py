"""What a preflight asks of three more products: bundles, Messaging Services, regions; reads only.

- https://www.twilio.com/docs/phone-numbers/regulatory/api/bundles
- https://www.twilio.com/docs/messaging/api/service-resource
- https://www.twilio.com/docs/global-infrastructure/inbound-processing-region-api-phone-number

As with trunks nothing in a path says whose objects are meant: it is the account that logs in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from deploy.sandbox.twilio_wire import Context, iso8601, ok, page_v1
from deploy.sandbox.vendor import Route

if TYPE_CHECKING:
    from deploy.sandbox.twilio_state import MessagingService, PhoneNumber
    from deploy.sandbox.twilio_wire import Operation
    from deploy.sandbox.vendor import Answer


def fetch_bundle(context: Context) -> Answer:
    """One regulatory bundle."""
    bundle = context.account.bundles.get(context.ids["sid"])
    if bundle is None:
        raise context.missing()
    return ok(
        {
            "sid": bundle.sid,
            "account_sid": context.account.sid,
            "regulation_sid": None,
            "friendly_name": "sandbox",
            "status": bundle.status,
            "valid_until": None,
            "email": None,
            "status_callback": None,
            "date_created": iso8601(bundle.created),
            "date_updated": iso8601(bundle.updated),
            "url": f"{context.base_url}{context.path}",
            "links": {},
        }
    )


def list_services(context: Context) -> Answer:
    """All Messaging Services."""
    return page_v1(
        context,
        "services",
        context.account.messaging_services.values(),
        lambda service: service.sid,
        lambda service: _service_document(context, service),
    )


def fetch_service(context: Context) -> Answer:
    """One Messaging Service."""
    return ok(_service_document(context, _service(context)))


def list_senders(context: Context) -> Answer:
    """The numbers of a Messaging Service."""
    service = _service(context)
    numbers = context.account.numbers
    return page_v1(
        context,
        "phone_numbers",
        [numbers[sid] for sid in service.number_sids if sid in numbers],
        lambda number: number.sid,
        lambda number: _sender_document(context, service, number),
    )


def fetch_sender(context: Context) -> Answer:
    """One number of a Messaging Service; 404 for one that is not in it."""
    service = _service(context)
    number = context.account.numbers.get(context.ids["sid"])
    if number is None or number.sid not in service.number_sids:
        raise context.missing()
    return ok(_sender_document(context, service, number))


def fetch_route(context: Context) -> Answer:
    """Which region processes calls to a number; it is addressed by its E.164."""
    number = context.account.number_by_phone(context.ids["phone_number"])
    if number is None:
        raise context.missing()
    return ok(
        {
            "sid": f"QQ{number.sid.removeprefix('PN')}",
            "account_sid": context.account.sid,
            "phone_number": number.phone_number,
            "friendly_name": number.friendly_name,
            "voice_region": number.voice_region,
            "date_created": iso8601(number.created),
            "date_updated": iso8601(number.updated),
            "url": f"{context.base_url}{context.path}",
        }
    )


def _service(context: Context) -> MessagingService:
    service = context.account.messaging_services.get(context.ids["service_sid"])
    if service is None:
        raise context.missing()
    return service


def _service_document(context: Context, service: MessagingService) -> dict[str, object]:
    url = f"{context.base_url}/v1/Services/{service.sid}"
    return {
        "sid": service.sid,
        "account_sid": context.account.sid,
        "friendly_name": service.friendly_name,
        "inbound_request_url": service.inbound_request_url or None,
        "inbound_method": "POST",
        "fallback_url": None,
        "fallback_method": "POST",
        "status_callback": None,
        "use_inbound_webhook_on_number": service.use_inbound_webhook_on_number,
        "usecase": "undeclared",
        "date_created": iso8601(service.created),
        "date_updated": iso8601(service.updated),
        "url": url,
        "links": {"phone_numbers": f"{url}/PhoneNumbers"},
    }


def _sender_document(
    context: Context, service: MessagingService, number: PhoneNumber
) -> dict[str, object]:
    # Unlike the number itself, this names its capabilities in a list, and in capitals.
    able = {"voice": "Voice", "sms": "SMS", "mms": "MMS"}
    return {
        "sid": number.sid,
        "account_sid": context.account.sid,
        "service_sid": service.sid,
        "phone_number": number.phone_number,
        "country_code": None,
        "capabilities": [word for key, word in able.items() if number.capabilities.get(key)],
        "date_created": iso8601(number.created),
        "date_updated": iso8601(number.updated),
        "url": f"{context.base_url}/v1/Services/{service.sid}/PhoneNumbers/{number.sid}",
    }


_SERVICE: Final = "/v1/Services/{service_sid}"

NUMBERS_ROUTES: Final[tuple[Route[Operation], ...]] = (
    Route("twilio.bundles.fetch", "GET", "/v2/RegulatoryCompliance/Bundles/{sid}", fetch_bundle),
)
MESSAGING_ROUTES: Final[tuple[Route[Operation], ...]] = (
    Route("twilio.messaging_services.list", "GET", "/v1/Services", list_services),
    Route("twilio.messaging_services.fetch", "GET", _SERVICE, fetch_service),
    Route("twilio.messaging_senders.list", "GET", f"{_SERVICE}/PhoneNumbers", list_senders),
    Route(
        "twilio.messaging_senders.fetch", "GET", f"{_SERVICE}/PhoneNumbers/{{sid}}", fetch_sender
    ),
)
ROUTES_ROUTES: Final[tuple[Route[Operation], ...]] = (
    Route("twilio.routes.fetch", "GET", "/v2/PhoneNumbers/{phone_number}", fetch_route),
)
