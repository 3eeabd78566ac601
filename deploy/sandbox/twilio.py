"""Twilio: the 2010-04-01 API under /twilio, every product under a path of its own.

The operations are in twilio_api.py, twilio_numbers.py, twilio_trunking.py, twilio_products.py.
"""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from deploy.sandbox import twilio_api, twilio_products, twilio_trunking
from deploy.sandbox.twilio_auth import authenticate, authorize, username_of
from deploy.sandbox.twilio_edit import ObjectEdit, edit_object
from deploy.sandbox.twilio_render import settings
from deploy.sandbox.twilio_seed import NumberEdit, TwilioSeed, edit_number, sow
from deploy.sandbox.twilio_state import TwilioState
from deploy.sandbox.twilio_wire import Context, TwilioError, error_answer, not_found
from deploy.sandbox.vendor import (
    MASK,
    Answer,
    Call,
    Incoming,
    Route,
    Router,
    fingerprint,
)

if TYPE_CHECKING:
    from deploy.sandbox.twilio_state import Account, CredentialList, PhoneNumber, Trunk
    from deploy.sandbox.twilio_wire import Operation

_API: Final = "twilio"
#: Mount → its operations. Only the API's paths name an account.
_ROUTES: Final = MappingProxyType(
    {
        _API: twilio_api.ROUTES,
        "twilio-trunking": twilio_trunking.ROUTES,
        "twilio-numbers": twilio_products.NUMBERS_ROUTES,
        "twilio-messaging": twilio_products.MESSAGING_ROUTES,
        "twilio-routes": twilio_products.ROUTES_ROUTES,
    }
)
_FORM_TYPE: Final = "application/x-www-form-urlencoded"


class Twilio:
    """The vendor as the server sees it."""

    name = "twilio"
    mounts = tuple(_ROUTES)

    def __init__(self) -> None:
        self._state = TwilioState()
        self._routers: Final = {mount: Router(routes) for mount, routes in _ROUTES.items()}

    def understand(self, incoming: Incoming) -> Call:
        """Finds the operation; credentials and body are checked when it runs."""
        form = _form(incoming)
        router = self._routers[incoming.mount]
        found = router.find(incoming.method, incoming.path)
        if found is None:
            known = router.knows(incoming.path)
            status = HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_FOUND
            answer = error_answer(status) if known else not_found(incoming.path).answer()
            return Call(
                operation="twilio.unknown",
                write=incoming.method != "GET",
                account=self._caller(incoming),
                fields=lambda: form,
                run=lambda: answer,
            )
        route, ids = found
        # A product's path names no account: it is the one of the credentials.
        account_sid = ids.get("account_sid") or self._caller(incoming)
        return Call(
            operation=route.operation,
            write=route.write,
            account=account_sid,
            fields=lambda: form,
            run=lambda: self._run(route, incoming, account_sid or "", ids, form),
        )

    def error(self, status: int, *, code: int | str | None, message: str | None) -> Answer:
        """Twilio's error body."""
        return error_answer(status, code, message)

    def garbage(self) -> Answer:
        """A page where JSON was expected."""
        return Answer(status=HTTPStatus.OK, body=b"<html>oops", content_type="text/html")

    def state(self) -> dict[str, object]:
        """All accounts."""
        return {
            "accounts": {
                account.sid: _account_document(account) for account in self._state.accounts.values()
            },
            "reserved_domains": sorted(self._state.reserved_domains),
        }

    def seed(self, document: object) -> None:
        """Adds accounts. Raises ValueError."""
        sow(self._state, TwilioSeed.model_validate(document))

    def edit(self, document: object) -> None:
        """Changes a number, or an object of some kind, by hand. Raises ValueError."""
        if isinstance(document, dict) and "kind" in document:
            edit_object(self._state, ObjectEdit.model_validate(document))
            return
        edit_number(self._state, NumberEdit.model_validate(document))

    def _caller(self, incoming: Incoming) -> str | None:
        """The account of the credentials, unproven."""
        user = username_of(incoming.headers.get("Authorization"))
        owner = self._state.key_owners.get(user or "")
        return owner.sid if owner is not None else user

    def _run(
        self,
        route: Route[Operation],
        incoming: Incoming,
        account_sid: str,
        ids: dict[str, str],
        form: dict[str, str],
    ) -> Answer:
        try:
            principal = authenticate(self._state, incoming.headers.get("Authorization"))
            if incoming.mount != _API:
                account_sid = principal.account.sid
            account = authorize(self._state, principal, account_sid, route.operation)
            _refuse_other_types(incoming)
            return route.handler(
                Context(
                    state=self._state,
                    account=account,
                    principal=principal,
                    path=incoming.path,
                    base_url=incoming.base_url,
                    ids=ids,
                    query=incoming.query,
                    form=form,
                )
            )
        except TwilioError as refusal:
            return refusal.answer()


def _refuse_other_types(incoming: Incoming) -> None:
    """Only forms are taken; the vendor's answer to anything else is not documented."""
    if incoming.body and not _is_form(incoming):
        raise TwilioError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, 20415, "Unsupported Media Type")


def _is_form(incoming: Incoming) -> bool:
    return incoming.headers.get("Content-Type", "").partition(";")[0].strip() == _FORM_TYPE


def _form(incoming: Incoming) -> dict[str, str]:
    if not incoming.body or not _is_form(incoming):
        return {}
    text = incoming.body.decode(errors="replace")
    return dict(parse_qsl(text, keep_blank_values=True))


def _account_document(account: Account) -> dict[str, object]:
    return {
        "sid": account.sid,
        "status": account.status,
        "type": account.type,
        "owner_account_sid": account.owner_account_sid,
        "api_keys": [{"sid": key.sid, "kind": key.kind} for key in account.api_keys.values()],
        "numbers": {
            number.phone_number: _number_document(number) for number in account.numbers.values()
        },
        "released_numbers": list(account.released_numbers),
        "applications": {
            application.sid: _plain(application) for application in account.applications.values()
        },
        "credential_lists": {
            item.sid: _list_document(item) for item in account.credential_lists.values()
        },
        "bundles": {bundle.sid: _plain(bundle) for bundle in account.bundles.values()},
        "messaging_services": {
            service.sid: _plain(service) for service in account.messaging_services.values()
        },
        "trunks": {trunk.sid: _trunk_document(account, trunk) for trunk in account.trunks.values()},
    }


def _number_document(number: PhoneNumber) -> dict[str, object]:
    return {
        "sid": number.sid,
        "phone_number": number.phone_number,
        "status": number.status,
        "capabilities": number.capabilities,
        "voice_receive_mode": number.voice_receive_mode,
        "emergency_status": number.emergency_status,
        "emergency_address_sid": number.emergency_address_sid,
        "emergency_address_status": number.emergency_address_status,
        "voice_region": number.voice_region,
        "address_sid": number.address_sid,
        "bundle_sid": number.bundle_sid,
        "identity_sid": number.identity_sid,
        **settings(number),
    }


def _list_document(item: CredentialList) -> dict[str, object]:
    return {
        "sid": item.sid,
        "friendly_name": item.friendly_name,
        "credentials": [
            {
                "sid": credential.sid,
                "username": credential.username,
                "password": MASK,
                "fingerprint": fingerprint(credential.password),
            }
            for credential in item.credentials.values()
        ],
    }


def _trunk_document(account: Account, trunk: Trunk) -> dict[str, object]:
    return {
        **_plain(trunk),
        "origination_urls": [_plain(item) for item in trunk.origination_urls.values()],
        "numbers": [number.phone_number for number in account.numbers_on(trunk)],
    }


def _plain(item: object) -> dict[str, object]:
    """A dataclass as JSON, without its dates: a state is compared with another one."""
    return {
        name: value
        for name, value in asdict(item).items()  # type: ignore[call-overload] # any dataclass
        if name not in {"created", "updated"}
    }
