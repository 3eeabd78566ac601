"""A number of each vendor, and requests signed as that vendor documents it, without our code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.integration.api.conftest import SID, TOKEN, Platform, Tenant, new_request

FORM: Final = "application/x-www-form-urlencoded"
AUTH_ID: Final = "MA000000000000000001"
KEY: Final = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"planted").digest())
OTHER_KEY: Final = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"other").digest())
CALLER: Final = "+12025550123"
VENDORS: Final = ("twilio", "telnyx", "plivo")
_serial = itertools.count(1)


def public(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


CREDENTIALS: Final[Mapping[str, Mapping[str, str]]] = {
    "twilio": {"account_sid": SID, "auth_token": TOKEN},
    "telnyx": {"api_key": "KEY-planted", "public_key": public(KEY)},
    "plivo": {"auth_id": AUTH_ID, "auth_token": TOKEN},
}


def sign(
    vendor: str,
    url: str,
    body: bytes,
    *,
    secret: str | Ed25519PrivateKey | None = None,
    ago: int = 0,
) -> dict[str, str]:
    """Signs a POST of a form, or for Telnyx of anything."""
    form = sorted(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
    if vendor == "telnyx":
        key = secret or KEY
        assert isinstance(key, Ed25519PrivateKey)
        # https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks
        at = str(int(time.time()) - ago)
        signature = base64.b64encode(key.sign(f"{at}|".encode() + body)).decode()
        return {"telnyx-timestamp": at, "telnyx-signature-ed25519": signature}
    token = secret or TOKEN
    assert isinstance(token, str)
    fields = "".join(f"{name}{value}" for name, value in form)
    if vendor == "twilio":
        # https://www.twilio.com/docs/usage/webhooks/webhooks-security
        return {"X-Twilio-Signature": _hmac(token, url + fields, hashlib.sha1)}
    # https://docs.plivo.com/docs/voice/concepts/signature-validation
    nonce = f"{next(_serial):020}"
    base, _, _ = url.partition("?")
    query = sorted(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    text = base + ("?" if query or form else "") + "&".join(f"{n}={v}" for n, v in query)
    text += ("." if query and form else "") + fields
    return {
        "X-Plivo-Signature-V3": _hmac(token, f"{text}.{nonce}", hashlib.sha256),
        "X-Plivo-Signature-V3-Nonce": nonce,
    }


def _hmac(token: str, text: str, digest: Any) -> str:
    return base64.b64encode(hmac.new(token.encode(), text.encode(), digest).digest()).decode()


@dataclass(frozen=True, kw_only=True)
class Line:
    """A number that somebody imports, as its provider calls for it."""

    platform: Platform
    tenant: Tenant
    vendor: str
    number: str
    import_id: str

    @property
    def uuid(self) -> UUID:
        found = self.platform.job(self.import_id).phone_number_id
        assert found is not None
        return found

    @property
    def id(self) -> str:
        return f"num_{self.uuid.hex}"

    def path(self, kind: str = "voice") -> str:
        return f"/callbacks/{self.vendor}/{kind}/{self.id}"

    def url(self, kind: str = "voice") -> str:
        return self.platform.settings.public_base_url + self.path(kind)

    def party(self, number: str) -> str:
        """A number as the vendor writes it."""
        return number.removeprefix("+") if self.vendor == "plivo" else number

    def call(self, **changes: str | None) -> dict[str, str]:
        """The form of a call that comes in."""
        call = "CallUUID" if self.vendor == "plivo" else "CallSid"
        fields: dict[str, str | None] = {
            call: "call-1",
            "CallStatus": "ringing",
            "From": self.party(CALLER),
            "To": self.party(self.number),
            "Direction": "inbound",
            **changes,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def send(
        self,
        kind: str = "voice",
        fields: Mapping[str, str] | bytes | None = None,
        *,
        query: str = "",
        secret: str | Ed25519PrivateKey | None = None,
        ago: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Sends what the vendor would: a form, signed for the URL that we gave out."""
        given = self.call() if fields is None else fields
        body = given if isinstance(given, bytes) else urlencode(given).encode()
        signed = sign(self.vendor, self.url(kind) + query, body, secret=secret, ago=ago)
        return self.platform.client().post(
            self.path(kind) + query,
            content=body,
            headers={"Content-Type": FORM, **signed, **(headers or {})},
        )

    def events(self, **params: Any) -> list[dict[str, Any]]:
        answer = self.tenant.http.get(f"/v1/phone-numbers/{self.id}/events", params=params)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    def stored(self) -> int:
        count = "SELECT count(*) FROM number_events WHERE phone_number_id = :id"
        return int(self.platform.sql(count, id=self.uuid)[0][0])

    def set_status(self, status: str) -> None:
        self.platform.sql(
            "UPDATE phone_numbers SET status = :status WHERE id = :id", status=status, id=self.uuid
        )


def pending(platform: Platform, tenant: Tenant, vendor: str = "twilio", **changes: Any) -> Line:
    """A number whose import is under way."""
    given = {"provider": vendor, "credentials": CREDENTIALS[vendor], **changes}
    request = new_request(**given)
    import_id = tenant.submit(request)["id"]
    return Line(
        platform=platform,
        tenant=tenant,
        vendor=vendor,
        number=request["phone_number"],
        import_id=import_id,
    )


def active(platform: Platform, tenant: Tenant, vendor: str = "twilio", **changes: Any) -> Line:
    line = pending(platform, tenant, vendor, **changes)
    platform.finish_all(line.import_id)
    return line


def message(line: Line, **payload: object) -> bytes:
    """https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks."""
    document = {
        "data": {
            "event_type": "message.received",
            "id": "b301ed3f-1490-491f-995f-6e64e69674d4",
            "record_type": "event",
            "payload": {
                "direction": "inbound",
                "id": "84cca175-9755-4859-b67f-4730d7f58aa3",
                "from": {"phone_number": CALLER},
                "to": [{"phone_number": line.number, "status": "webhook_delivered"}],
                **payload,
            },
        }
    }
    return json.dumps(document).encode()
