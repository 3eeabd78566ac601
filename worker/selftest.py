"""Calls our own public voice URL as the provider will, before a live number is sent there.

Three things are proven: that the URL leads to an API, that the API is of this deployment (it shares
a vault key with us), and that it accepts what is signed with the import's credentials. Where only
the vendor can sign, the request goes unsigned and must be refused, by our own API.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import ssl
from http import HTTPStatus
from typing import Final, NoReturn
from urllib.parse import urlsplit

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from worker.domain.calls import CallbackRequest
from worker.domain.errors import CallbacksUnreachable, InternalError, SignaturesUnverifiable
from worker.domain.values import E164, CallbackUrls
from worker.providers._core import Credentials, Webhooks
from worker.settings import Settings

#: Carries a nonce; whoever answers puts :func:`probe_answer` into the other.
PROBE_HEADER: Final = "X-Trunkline-Probe"
ANSWER_HEADER: Final = "X-Trunkline-Probe-Answer"


def probe(
    *,
    settings: Settings,
    webhooks: Webhooks,
    credentials: Credentials,
    urls: CallbackUrls,
    number: E164,
) -> None:
    """Sends the vendor's voice request for a call to the number, from the number itself.

    Does nothing if the settings switch it off.

    Raises:
        CallbacksUnreachable: the URL does not lead to this deployment, or that is not well.
        SignaturesUnverifiable: this deployment refuses what these credentials sign.

    Safe to repeat: yes.
    """
    if not settings.self_test:
        return
    content_type, body = webhooks.call(number, number)
    headers = {"content-type": content_type}
    request = CallbackRequest(method="POST", url=urls.voice, headers=headers, body=body)
    signature = webhooks.sign(credentials, request)
    nonce = secrets.token_urlsafe(24)
    status, answer = _send(settings, request, {**headers, **(signature or {}), PROBE_HEADER: nonce})
    if not _is_ours(settings, nonce, urls.voice, answer):
        _unreachable(f"something else answers there, with status {status}")
    if signature is None and status == HTTPStatus.OK:
        raise InternalError("Our API answered a voice request that nobody had signed.")
    if signature is not None and status == HTTPStatus.FORBIDDEN:
        raise SignaturesUnverifiable
    if status != (HTTPStatus.FORBIDDEN if signature is None else HTTPStatus.OK):
        _unreachable(f"our API answers there with status {status}")


def probe_answer(settings: Settings, nonce: str, url: str) -> str:
    """Returns what proves that a response to a request for a public URL is this deployment's. Pure.

    One proof for each vault key: while keys are being replaced, processes differ in theirs.
    """
    return " ".join(_proofs(settings, nonce, url))


def _is_ours(settings: Settings, nonce: str, url: str, answer: str) -> bool:
    given = answer.encode().split(b" ")
    return any(
        hmac.compare_digest(one, proof.encode())
        for proof in _proofs(settings, nonce, url)
        for one in given
    )


def _proofs(settings: Settings, nonce: str, url: str) -> list[str]:
    content = f"{nonce}\n{url}".encode()
    return [
        hmac.new(_derive(key), content, hashlib.sha256).hexdigest() for key in settings.vault_keys
    ]


def _derive(key: SecretStr) -> bytes:
    """Returns a key for this purpose alone: a proof says nothing of the vault's."""
    derivation = HKDF(hashes.SHA256(), length=32, salt=None, info=b"trunkline self-test")
    return derivation.derive(key.get_secret_value().encode())


def _send(settings: Settings, request: CallbackRequest, headers: dict[str, str]) -> tuple[int, str]:
    """Returns the status and the proof that came with it; the body is not read."""
    url, extensions = request.url, {}
    if settings.self_test_base_url is not None:
        public = urlsplit(request.url)
        url = settings.self_test_base_url + request.url.removeprefix(settings.public_base_url)
        headers = {**headers, "Host": public.netloc}
        if url.startswith("https:"):
            # The certificate is the public name's, whatever the way to it.
            extensions = {"sni_hostname": public.hostname}
    timeout = httpx.Timeout(settings.read_timeout_seconds, connect=settings.connect_timeout_seconds)
    try:
        with (
            httpx.Client(timeout=timeout, trust_env=False, follow_redirects=False) as client,
            client.stream(
                "POST", url, content=request.body, headers=headers, extensions=extensions
            ) as response,
        ):
            return response.status_code, response.headers.get(ANSWER_HEADER, "")
    except httpx.TimeoutException:
        _unreachable("there was no answer in time")
    except httpx.ConnectError as error:
        _unreachable(_why_not_connected(error))
    except httpx.TransportError:
        _unreachable("the connection was cut before an answer, or the answer was not HTTP")


def _why_not_connected(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its TLS certificate is not accepted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return "the TLS handshake fails"
        if isinstance(cause, ConnectionRefusedError):
            return "the connection is refused"
        cause = cause.__cause__ or cause.__context__
    return "its host cannot be found or reached"


def _unreachable(saw: str) -> NoReturn:
    # From None: the cause may hold the request, and with it a signature.
    raise CallbacksUnreachable(
        f"Calls would not reach us at our public callback URL: {saw}. The operator must check "
        "TRUNKLINE_PUBLIC_BASE_URL and what stands before the API."
    ) from None
