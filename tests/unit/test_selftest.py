"""The self-test against real servers that are, or only pretend to be, our own API."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from deploy.local.waiting import LOOPBACK, free_port
from tests.conftest import make_settings
from tests.receiver import Received, Receiver, Told, certify, receiving
from worker.domain.calls import Answer, CallbackKind, CallbackRequest, Event
from worker.domain.errors import (
    CallbacksUnreachable,
    InternalError,
    SignaturesUnverifiable,
)
from worker.domain.values import E164, CallbackUrls, ProviderName
from worker.providers._core import Credentials
from worker.selftest import ANSWER_HEADER, PROBE_HEADER, probe, probe_answer
from worker.settings import Settings

NUMBER = E164("+14155550100")
NUMBER_ID = UUID(int=1)
PUBLIC = "https://voice.trunkline.example"
KEY, OLD_KEY = (SecretStr(Fernet.generate_key().decode()) for _ in range(2))


class Account(Credentials):
    token: SecretStr

    @property
    def account_ref(self) -> str:
        return "A1"

    @property
    def can_verify_webhooks(self) -> bool:
        return True


class Vendor:
    """Signs as Twilio does, more or less: over the URL and the body."""

    def verify(self, credentials: Credentials, request: CallbackRequest) -> bool:
        signed = self.sign(credentials, request)
        return signed is not None and signed.items() <= request.headers.items()

    def sign(self, credentials: Credentials, request: CallbackRequest) -> Mapping[str, str] | None:
        assert isinstance(credentials, Account)
        key = credentials.token.get_secret_value().encode()
        content = request.url.encode() + request.body
        signature = hmac.digest(key, content, hashlib.sha256)
        return {"x-vendor-signature": base64.b64encode(signature).decode()}

    def call(self, sender: str, number: str) -> tuple[str, bytes]:
        form = {"CallSid": "CA1", "From": sender, "To": number}
        return "application/x-www-form-urlencoded", urlencode(form).encode()

    def numbers(self, request: CallbackRequest) -> frozenset[str] | None:
        raise AssertionError("the self-test only signs and calls", request)

    def is_answered(self, request: CallbackRequest) -> bool:
        raise AssertionError("the self-test only signs and calls", request)

    def event(self, kind: CallbackKind, request: CallbackRequest) -> Event | None:
        raise AssertionError("the self-test only signs and calls", kind, request)

    def render(self, answer: Answer) -> tuple[str, bytes]:
        raise AssertionError("the self-test only signs and calls", answer)


class Keyless(Vendor):
    """Keeps its key to itself."""

    def sign(self, credentials: Credentials, request: CallbackRequest) -> None:
        del credentials, request


class Api:
    """Answers voice requests as ours does: 200 if signed, else 403, always with a proof."""

    def __init__(self, receiver: Receiver, settings: Settings, *, signed_by: str = "t") -> None:
        self.receiver, self.settings, self.token = receiver, settings, signed_by
        self.status: int | None = None
        self.proof: str | None = None
        receiver.script = self._answer

    def _answer(self, received: Received) -> Told:
        url = self.settings.public_base_url + received.path
        request = CallbackRequest(
            method=received.method, url=url, headers=received.headers, body=received.body
        )
        account = Account(token=SecretStr(self.token))
        status = self.status or (200 if Vendor().verify(account, request) else 403)
        proof = self.proof
        if proof is None:
            proof = probe_answer(self.settings, received.headers[PROBE_HEADER.lower()], url)
        return Told(status=status, headers={ANSWER_HEADER: proof} if proof else {})


def settings_of(**changes: Any) -> Settings:
    return make_settings(
        "postgresql://h/d",
        **{
            "vault_keys": (KEY,),
            "public_base_url": PUBLIC,
            "connect_timeout_seconds": 0.5,
            "read_timeout_seconds": 0.5,
            **changes,
        },
    )


def run(settings: Settings, webhooks: Vendor | None = None) -> None:
    probe(
        settings=settings,
        webhooks=webhooks or Vendor(),
        credentials=Account(token=SecretStr("t")),
        urls=CallbackUrls.of(settings.public_base_url, ProviderName.TWILIO, NUMBER_ID),
        number=NUMBER,
    )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture
def settings(receiver: Receiver) -> Settings:
    return settings_of(self_test_base_url=f"http://{LOOPBACK}:{receiver.port}/")


@pytest.fixture
def api(receiver: Receiver, settings: Settings) -> Api:
    return Api(receiver, settings)


def test_our_own_api_passes(api: Api, settings: Settings) -> None:
    run(settings)

    [got] = api.receiver.received
    assert (got.method, got.path) == ("POST", f"/callbacks/twilio/voice/num_{NUMBER_ID.hex}")
    assert got.headers["host"] == "voice.trunkline.example"
    assert got.headers["content-type"] == "application/x-www-form-urlencoded"
    assert b"To=%2B14155550100" in got.body


def test_the_public_url_itself_is_called(receiver: Receiver) -> None:
    settings = settings_of(public_base_url=f"http://localhost:{receiver.port}")
    Api(receiver, settings)
    run(settings)
    [got] = receiver.received
    assert got.headers["host"] == f"localhost:{receiver.port}"


def test_each_probe_asks_for_another_proof(api: Api, settings: Settings) -> None:
    run(settings)
    run(settings)
    first, second = (one.headers[PROBE_HEADER.lower()] for one in api.receiver.received)
    assert first != second


def test_a_vendor_that_keeps_its_key_is_refused_by_us(api: Api, settings: Settings) -> None:
    run(settings, Keyless())
    assert "x-vendor-signature" not in api.receiver.received[0].headers


def test_an_unsigned_request_that_is_answered_is_our_bug(api: Api, settings: Settings) -> None:
    api.status = 200
    with pytest.raises(InternalError):
        run(settings, Keyless())


def test_a_signature_that_our_api_refuses_can_never_be_verified(
    receiver: Receiver, settings: Settings
) -> None:
    Api(receiver, settings, signed_by="another")
    with pytest.raises(SignaturesUnverifiable):
        run(settings)


@pytest.mark.parametrize("webhooks", [Vendor(), Keyless()])
@pytest.mark.parametrize("status", [200, 403, 404, 500])
def test_an_answer_without_proof_is_somebody_elses(
    api: Api, settings: Settings, status: int, webhooks: Vendor
) -> None:
    api.status, api.proof = status, ""
    with pytest.raises(CallbacksUnreachable, match=f"something else .* status {status}"):
        run(settings, webhooks)


def test_another_deployments_proof_is_wrong(receiver: Receiver, settings: Settings) -> None:
    Api(receiver, settings_of(vault_keys=(OLD_KEY,)))
    with pytest.raises(CallbacksUnreachable, match="something else"):
        run(settings)


def test_a_proof_is_good_for_one_nonce_and_one_url(api: Api, settings: Settings) -> None:
    run(settings)
    url = PUBLIC + api.receiver.received[0].path
    nonce = api.receiver.received[0].headers[PROBE_HEADER.lower()]
    api.proof = probe_answer(settings, nonce, url)
    with pytest.raises(CallbacksUnreachable, match="something else"):
        run(settings)
    assert probe_answer(settings, nonce, url) != probe_answer(settings, nonce, url + "x")


@pytest.mark.parametrize("junk", ["é", " ", "0" * 64, "true"])
def test_junk_is_no_proof(api: Api, settings: Settings, junk: str) -> None:
    api.proof = junk
    with pytest.raises(CallbacksUnreachable, match="something else"):
        run(settings)


@pytest.mark.parametrize(("here", "there"), [((KEY,), (OLD_KEY, KEY)), ((OLD_KEY, KEY), (KEY,))])
def test_keys_may_be_replaced_one_process_at_a_time(
    receiver: Receiver,
    settings: Settings,
    here: tuple[SecretStr, ...],
    there: tuple[SecretStr, ...],
) -> None:
    Api(receiver, settings.model_copy(update={"vault_keys": there}))
    run(settings.model_copy(update={"vault_keys": here}))


@pytest.mark.parametrize("webhooks", [Vendor(), Keyless()])
@pytest.mark.parametrize("status", [204, 301, 404, 500, 503])
def test_our_api_not_being_well_is_worth_another_try(
    api: Api, settings: Settings, status: int, webhooks: Vendor
) -> None:
    api.status = status
    with pytest.raises(CallbacksUnreachable, match=f"our API answers there with status {status}"):
        run(settings, webhooks)


def test_a_redirect_is_not_followed(receiver: Receiver, settings: Settings) -> None:
    with receiving() as elsewhere:
        Api(elsewhere, settings)
        receiver.script = lambda _: Told(status=308, headers={"Location": elsewhere.url})
        with pytest.raises(CallbacksUnreachable, match="status 308"):
            run(settings)
        assert elsewhere.received == []


def test_a_refused_connection_is_named() -> None:
    settings = settings_of(self_test_base_url=f"http://{LOOPBACK}:{free_port()}")
    with pytest.raises(CallbacksUnreachable, match="connection is refused"):
        run(settings)


def test_a_name_that_is_nowhere_is_named() -> None:
    settings = settings_of(public_base_url="https://voice.trunkline.invalid")
    with pytest.raises(CallbacksUnreachable, match="cannot be found"):
        run(settings)


def test_silence_is_named() -> None:
    with socket.create_server((LOOPBACK, 0)) as silent:
        settings = settings_of(self_test_base_url=f"http://{LOOPBACK}:{silent.getsockname()[1]}")
        with pytest.raises(CallbacksUnreachable, match="no answer in time"):
            run(settings)


def test_a_wrong_certificate_is_named_and_the_public_name_asked_for(tmp_path: Path) -> None:
    server_side, _ = certify(tmp_path, "voice.trunkline.example")
    names: list[str | None] = []
    server_side.sni_callback = lambda _socket, name, _context: names.append(name)
    with receiving(server_side) as receiver:
        settings = settings_of(self_test_base_url=f"https://{LOOPBACK}:{receiver.port}")
        with pytest.raises(CallbacksUnreachable, match="TLS certificate is not accepted"):
            run(settings)
    assert names == ["voice.trunkline.example"]


def test_a_server_without_tls_is_named(receiver: Receiver) -> None:
    settings = settings_of(self_test_base_url=f"https://{LOOPBACK}:{receiver.port}")
    with pytest.raises(CallbacksUnreachable, match="TLS handshake"):
        run(settings)


def test_a_proxy_of_the_environment_is_not_used(
    api: Api, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{LOOPBACK}:1")
    run(settings)
    assert len(api.receiver.received) == 1


def test_it_can_be_switched_off(api: Api, settings: Settings) -> None:
    run(settings.model_copy(update={"self_test": False}))
    assert api.receiver.received == []


def test_no_error_holds_what_was_sent(api: Api, settings: Settings) -> None:
    api.status = 500
    with pytest.raises(CallbacksUnreachable) as caught:
        run(settings)
    [got] = api.receiver.received
    signature = got.headers["x-vendor-signature"]
    assert signature not in repr(caught.value)
    assert caught.value.__cause__ is None
