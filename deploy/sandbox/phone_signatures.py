"""How each vendor signs what it requests, written from its documentation.

The product verifies with the vendors' own SDKs; nothing here uses those.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from deploy.sandbox.phone_web import Outgoing


def twilio(request: Outgoing, auth_token: str) -> Mapping[str, str]:
    """HMAC-SHA1 of the URL and, for a form, every parameter name and value, sorted by name.

    https://www.twilio.com/docs/usage/security#validating-requests. Of voice requests over https
    the port is left out of what is signed.
    """
    parts = urlsplit(request.url)
    if parts.scheme == "https" and parts.port is not None:
        parts = parts._replace(netloc=parts.netloc.rpartition(":")[0])
    text = urlunsplit(parts) + "".join(f"{name}{value}" for name, value in sorted(request.form))
    digest = hmac.digest(auth_token.encode(), text.encode(), hashlib.sha1)
    return {"X-Twilio-Signature": base64.b64encode(digest).decode()}


def telnyx(request: Outgoing, key: Ed25519PrivateKey) -> Mapping[str, str]:
    """Ed25519 of the time, a bar and the body.

    https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks
    """
    at = str(int(time.time()))
    signature = key.sign(f"{at}|".encode() + request.body)
    return {
        "telnyx-timestamp": at,
        "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
    }


def plivo_v3(request: Outgoing, auth_token: str, main_token: str) -> Mapping[str, str]:
    """HMAC-SHA256 of the URL, the query, the parameters and a nonce.

    https://docs.plivo.com/docs/voice/concepts/signature-validation: with the token of the account
    or sub-account, and beside it always with the main account's.
    """
    nonce = _nonce()
    text = f"{_plivo_text(request)}.{nonce}"
    return {
        "X-Plivo-Signature-V3": _sha256(auth_token, text),
        "X-Plivo-Signature-Ma-V3": _sha256(main_token, text),
        "X-Plivo-Signature-V3-Nonce": nonce,
    }


def plivo_v2(request: Outgoing, auth_token: str, main_token: str) -> Mapping[str, str]:
    """HMAC-SHA256 of the URL without its query and a nonce.

    https://docs.plivo.com/docs/messaging/concepts/signature-validation
    """
    nonce = _nonce()
    text = f"{_without_query(request.url)}{nonce}"
    return {
        "X-Plivo-Signature-V2": _sha256(auth_token, text),
        "X-Plivo-Signature-Ma-V2": _sha256(main_token, text),
        "X-Plivo-Signature-V2-Nonce": nonce,
    }


def _plivo_text(request: Outgoing) -> str:
    """The URL with its query decoded and sorted; for a form, its fields joined behind a dot.

    A question mark stands before the query, and also where there is none if a form follows.
    """
    query = sorted(parse_qsl(urlsplit(request.url).query, keep_blank_values=True))
    text = _without_query(request.url)
    if query or request.form:
        text += "?" + "&".join(f"{name}={value}" for name, value in query)
    if query and request.form:
        text += "."
    return text + _joined(request.form)


def _joined(form: Iterable[tuple[str, str]]) -> str:
    return "".join(f"{name}{value}" for name, value in sorted(form))


def _without_query(url: str) -> str:
    return urlunsplit(urlsplit(url)._replace(query="", fragment=""))


def _sha256(token: str, text: str) -> str:
    return base64.b64encode(hmac.digest(token.encode(), text.encode(), hashlib.sha256)).decode()


def _nonce() -> str:
    """Twenty digits, as in the documentation's example."""
    return str(10**19 + secrets.randbelow(9 * 10**19))
