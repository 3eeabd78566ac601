from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import parse_qsl

import aiohttp
import plivo.utils
import pytest
from twilio.request_validator import RequestValidator

from deploy.sandbox import phone_signatures
from deploy.sandbox.phone_web import Hook, Outgoing, Reply, Web

TOKEN = "sandbox-token-1"
FORM = (("To", "+14155550100"), ("Text", "é & ü = 1"), ("A", ""))


def ask(hook: Hook, public_urls: Mapping[str, str], steps: list[dict[str, object]]) -> Reply:
    async def run() -> Reply:
        async with aiohttp.ClientSession() as session:
            web = Web(
                session,
                public_urls,
                steps,
                signer=lambda _: {},
                user_agent="test",
                timeout_seconds=0.05,
            )
            return await web.ask("voice", hook, {"a": "b"})

    return asyncio.run(run())


def test_answer_that_does_not_come_in_time_is_none() -> None:
    steps: list[dict[str, object]] = []

    async def run() -> Reply:
        given_up = asyncio.Event()

        async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            await writer.wait_closed()
            given_up.set()

        server = await asyncio.start_server(be_silent, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()[:2]
        hook = Hook(url="https://a.example/voice")
        async with server:
            urls = {"https://a.example": f"http://{host}:{port}"}
            reply = await asyncio.to_thread(ask, hook, urls, steps)
            await given_up.wait()
            return reply

    reply = asyncio.run(run())
    assert (reply.status, reply.problem) == (None, "no answer within 0.05 s")
    assert steps[0]["problem"] == "no answer within 0.05 s"


@pytest.mark.parametrize(
    "url", ["https://b.example/voice", "http://a.example/voice", "https://a.example:8443/voice"]
)
def test_only_the_very_scheme_host_and_port_are_mapped(url: str) -> None:
    steps: list[dict[str, object]] = []
    assert ask(Hook(url=url), {"https://a.example": "http://127.0.0.1:1"}, steps).foreign
    assert (steps[0]["foreign"], steps[0]["url"]) == (True, url)


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example/voice",
        "https://a.example:8443/voice?x=1&y=",
        "http://a.example:8080/voice?x=a%20b",
    ],
)
class TestSignatures:
    """The vendors' own helpers agree with what is written from their documentation."""

    def outgoing(self, url: str) -> Outgoing:
        return Outgoing(method="POST", url=url, form=FORM)

    def test_twilio(self, url: str) -> None:
        headers = phone_signatures.twilio(self.outgoing(url), TOKEN)
        validator = RequestValidator(TOKEN)
        signature = headers["X-Twilio-Signature"]
        assert validator.validate(url, dict(FORM), signature)
        assert not validator.validate(url, {**dict(FORM), "A": "x"}, signature)
        assert not validator.validate(f"{url}x", dict(FORM), signature)

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_plivo_v3(self, url: str, method: str) -> None:
        form = FORM if method == "POST" else ()
        request = Outgoing(method=method, url=url, form=form)
        headers = phone_signatures.plivo_v3(request, TOKEN, "main-token")
        nonce = headers["X-Plivo-Signature-V3-Nonce"]

        def holds(header: str, token: str, at: str = url) -> bool:
            args = (method, at, nonce, token, headers[header], dict(form))
            return bool(plivo.utils.validate_v3_signature(*args))

        assert holds("X-Plivo-Signature-V3", TOKEN)
        assert holds("X-Plivo-Signature-Ma-V3", "main-token")
        assert not holds("X-Plivo-Signature-V3", "main-token")
        assert not holds("X-Plivo-Signature-V3", TOKEN, f"{url}x")

    def test_plivo_v2(self, url: str) -> None:
        headers = phone_signatures.plivo_v2(self.outgoing(url), TOKEN, "main-token")
        nonce = headers["X-Plivo-Signature-V2-Nonce"]
        signature = headers["X-Plivo-Signature-V2"]
        assert plivo.utils.validate_signature(url, nonce, signature, TOKEN)
        assert not plivo.utils.validate_signature(url, nonce, signature, "main-token")


def test_form_arrives_as_it_was_signed() -> None:
    sent: list[Outgoing] = []

    def keep(request: Outgoing) -> Mapping[str, str]:
        sent.append(request)
        return {}

    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            web = Web(
                session,
                {"https://a.example": "http://127.0.0.1:1"},
                [],
                signer=keep,
                user_agent="test",
                timeout_seconds=1,
            )
            await web.ask("voice", Hook(url="https://a.example/v"), dict(FORM))
            await web.ask("voice", Hook(url="https://a.example/v?z=1", method="GET"), dict(FORM))

    asyncio.run(run())
    post, get = sent
    assert tuple(parse_qsl(post.body.decode(), keep_blank_values=True)) == post.form == FORM
    assert get.form == ()
    query = get.url.partition("?")[2]
    assert tuple(parse_qsl(query, keep_blank_values=True)) == (("z", "1"), *FORM)
