"""What the Telnyx adapter knows without making a call; the contract suite has the rest."""

from __future__ import annotations

import base64
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest
import telnyx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import ValidationError

from tests.unit.providers.examples import settings
from tests.vendors import TELNYX_PUBLIC_KEY
from worker.domain.errors import (
    AccountSuspended,
    InsufficientPermission,
    InternalError,
    InvalidCredentials,
    NotFound,
    NumberNotActive,
    ProviderRateLimited,
    ProviderUnavailable,
    SipTrunkProvisionFailed,
    TransientError,
    TrunklineError,
    WebhookSetupFailed,
)
from worker.domain.job import Attempt, Lease, StepName
from worker.domain.values import E164, NOWHERE, CallbackUrls, Fields, RoutingMode, Target
from worker.providers import _telnyx_transport as transport
from worker.providers._telnyx_credentials import TelnyxCredentials
from worker.providers._telnyx_wire import ERRORS, facts, translate
from worker.providers.telnyx import Telnyx

KEY = "KEY-planted"
PUBLIC_KEY = TELNYX_PUBLIC_KEY
URLS = CallbackUrls(
    voice="https://voice.example.com/voice",
    status="https://voice.example.com/status",
    sms="https://voice.example.com/sms",
    dialed="https://dialed.example.com/dialed",
    recording="https://recording.example.com/recording",
)
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
REQUEST = httpx.Request("GET", "https://api.example.com/planted")
OBJECTS = {"application": "11", "connection": "12", "messaging_profile": "profile"}


def adapter(**fields: str) -> Telnyx:
    attempt = Attempt(
        import_id="imp_1", step=StepName.ROUTE_NUMBER, number=1, lease=Lease(seconds=60)
    )
    credentials = TelnyxCredentials.model_validate({"api_key": KEY, **fields})
    return Telnyx.connect(credentials, settings(), attempt)


def refusal(
    status: int, code: object = None, detail: str = "planted", **headers: str
) -> telnyx.APIStatusError:
    body = {"errors": [{"code": code, "title": "planted", "detail": detail}]}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = httpx.Response(status, headers=named, json=body, request=REQUEST)
    error: telnyx.APIStatusError = adapter()._wire.client._make_status_error_from_response(answer)
    return error


def unheard(cause: Exception) -> telnyx.APIConnectionError:
    error = telnyx.APIConnectionError(request=REQUEST)
    error.__cause__ = cause
    return error


def page(status: int) -> telnyx.APIStatusError:
    answer = httpx.Response(status, text="<html>planted</html>", request=REQUEST)
    error: telnyx.APIStatusError = adapter()._wire.client._make_status_error_from_response(answer)
    return error


# --- translate --------------------------------------------------------------------------------

FAILURES = [
    (refusal(401, "10009"), InvalidCredentials),
    (refusal(401), InvalidCredentials),
    (refusal(403, "10010"), InsufficientPermission),
    (refusal(403), InsufficientPermission),
    (refusal(403, "10010", "Your account has been suspended"), AccountSuspended),
    (refusal(403, "10010", "Account is disabled"), AccountSuspended),
    (refusal(404, "10005"), NotFound),
    (refusal(404, 10005), NotFound),
    (page(404), ProviderUnavailable),
    (refusal(400, "10015"), SipTrunkProvisionFailed),
    (page(400), SipTrunkProvisionFailed),
    (refusal(409, "10012"), SipTrunkProvisionFailed),
    (refusal(422, "10004"), SipTrunkProvisionFailed),
    (refusal(422, "nonsense"), SipTrunkProvisionFailed),
    (refusal(422, "10001"), NumberNotActive),
    (refusal(408, "10008"), ProviderUnavailable),
    (refusal(408), ProviderUnavailable),
    (refusal(429, "10011"), ProviderRateLimited),
    (refusal(429), ProviderRateLimited),
    (refusal(500, "10007"), ProviderUnavailable),
    (page(502), ProviderUnavailable),
    (page(302), ProviderUnavailable),
    (telnyx.APITimeoutError(REQUEST), InternalError),
    (unheard(httpx.ReadTimeout("planted")), ProviderUnavailable),
    (unheard(httpx.ConnectTimeout("planted")), ProviderUnavailable),
    (unheard(httpx.PoolTimeout("planted")), ProviderUnavailable),
    (unheard(httpx.ConnectError("planted")), ProviderUnavailable),
    (unheard(httpx.RemoteProtocolError("planted")), ProviderUnavailable),
    (unheard(httpx.DecodingError("planted")), ProviderUnavailable),
    (unheard(httpx.LocalProtocolError("planted")), InvalidCredentials),
    (unheard(RuntimeError("planted")), InternalError),
    (UnicodeEncodeError("ascii", "é", 0, 1, "planted"), InvalidCredentials),
    (telnyx.APIResponseValidationError(httpx.Response(200, request=REQUEST), None), None),
    (ValueError("planted"), ProviderUnavailable),
    (AttributeError("'str' object has no attribute 'data'"), ProviderUnavailable),
    (TypeError("planted"), ProviderUnavailable),
    (RuntimeError("planted"), InternalError),
]


@pytest.mark.parametrize(("exc", "expected"), FAILURES)
def test_every_failure_has_a_name(exc: Exception, expected: type[TrunklineError] | None) -> None:
    error = translate(exc, now=NOW, write=True, refused=SipTrunkProvisionFailed, missing=NotFound)

    assert type(error) is (expected or ProviderUnavailable)
    assert "planted" not in f"{error} {error!r}"
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own
    assert again.__dict__ == error.__dict__


@pytest.mark.parametrize(
    ("exc", "unknown"),
    [
        (unheard(httpx.ReadTimeout("")), True),
        (unheard(httpx.WriteError("")), True),
        (unheard(httpx.RemoteProtocolError("")), True),
        (refusal(500, "10007"), True),
        (page(503), True),
        (page(404), True),
        (ValueError(), True),
        (unheard(httpx.ConnectError("")), False),
        (unheard(httpx.ConnectTimeout("")), False),
        (unheard(httpx.PoolTimeout("")), False),
        (refusal(429, "10011"), False),
    ],
)
def test_only_a_write_that_may_have_been_heard_has_an_unknown_outcome(
    exc: Exception, *, unknown: bool
) -> None:
    for write in (True, False):
        error = translate(exc, now=NOW, write=write)
        assert isinstance(error, TransientError)
        assert error.outcome_unknown is (unknown and write)


@pytest.mark.parametrize(
    ("exc", "wait"),
    [
        (refusal(429, retry_after="7"), 7),
        (refusal(429, retry_after="7", x_ratelimit_reset="3"), 7),
        (refusal(429, x_ratelimit_reset="3"), 3),
        (refusal(429, retry_after="soon", x_ratelimit_reset="3"), 3),
        (refusal(429, x_ratelimit_reset="1000000000"), 300),
        (refusal(429, x_ratelimit_reset="soon"), None),
        (refusal(429), None),
        (refusal(503, retry_after="7"), 7),
        (refusal(503, x_ratelimit_reset="3"), None),
    ],
)
def test_the_vendors_wait_is_passed_on(exc: Exception, wait: float | None) -> None:
    error = translate(exc, now=NOW, write=False)

    assert isinstance(error, TransientError)
    assert error.retry_after == wait


def test_without_a_context_a_refusal_is_a_bug() -> None:
    assert type(translate(refusal(422), now=NOW, write=False)) is InternalError
    error = translate(refusal(422), now=NOW, write=True, refused=WebhookSetupFailed)
    assert type(error) is WebhookSetupFailed


def test_every_row_of_the_table_is_used() -> None:
    known = [facts(exc) for exc, _ in FAILURES]

    assert {code for _, code in known} >= {code for code in ERRORS if code > 999}
    assert {status for status, _ in known} >= {code for code in ERRORS if code < 999}


# --- credentials ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "api_key"),
        ({"api_key": ""}, "empty"),
        ({"api_key": "KEY planted"}, "spaces"),
        ({"api_key": "KEY-planted\n"}, "spaces"),
        ({"api_key": "KEY-plantéd"}, "special"),
        ({"api_key": KEY, "public_key": ""}, "32 bytes"),
        ({"api_key": KEY, "public_key": "planted!"}, "32 bytes"),
        ({"api_key": KEY, "public_key": base64.b64encode(bytes(31)).decode()}, "32 bytes"),
        ({"api_key": KEY, "public_key": PUBLIC_KEY + "\n"}, "32 bytes"),
        ({"api_key": KEY, "public_key": "é"}, "32 bytes"),
        ({"api_key": KEY, "account": "1"}, "account"),
    ],
)
def test_bad_credentials_are_refused_without_being_shown(fields: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        TelnyxCredentials.model_validate(fields)

    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("sign", [0, 0x80])
@pytest.mark.parametrize(
    "known",
    [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ],
)
def test_a_public_key_for_which_anybody_can_sign_is_refused(known: str, sign: int) -> None:
    *rest, last = bytes.fromhex(known)
    key = base64.b64encode(bytes([*rest, last | sign])).decode()

    with pytest.raises(ValidationError, match="anybody can sign"):
        TelnyxCredentials.model_validate({"api_key": KEY, "public_key": key})


def test_what_signs_for_such_a_key_needs_no_secret() -> None:
    # Nothing else refuses it: the signature is the key's own point and a zero.
    neutral = Ed25519PublicKey.from_public_bytes(bytes([1, *bytes(31)]))

    neutral.verify(bytes([1, *bytes(63)]), b"anything")


def test_the_account_is_a_fingerprint_of_the_key() -> None:
    one = TelnyxCredentials.model_validate({"api_key": KEY})
    other = TelnyxCredentials.model_validate({"api_key": "KEY-other"})

    assert one.account_ref.startswith("telnyx-")
    assert len(one.account_ref) == len("telnyx-") + 16
    assert one.account_ref != other.account_ref
    assert KEY not in f"{one!r} {one.account_ref}"


def test_only_with_the_public_key_webhooks_can_be_verified() -> None:
    assert not TelnyxCredentials.model_validate({"api_key": KEY}).can_verify_webhooks
    both = {"api_key": KEY, "public_key": PUBLIC_KEY}
    assert TelnyxCredentials.model_validate(both).can_verify_webhooks
    assert TelnyxCredentials.model_validate(both).reveal() == both


# --- routing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "fields", "expected"),
    [
        ("voice", {}, NOWHERE),
        ("voice", {"connection_id": "", "connection_type": ""}, NOWHERE),
        (
            "voice",
            {"connection_id": "1", "connection_type": "texml_application"},
            Target(kind="application", value="1"),
        ),
        (
            "voice",
            {"connection_id": "1", "connection_type": "ip_connection"},
            Target(kind="connection", value="1"),
        ),
        (
            "voice",
            {"connection_id": "1", "connection_type": ""},
            Target(kind="connection", value="1"),
        ),
        ("sms", {"messaging_profile_id": ""}, NOWHERE),
        ("sms", {"messaging_profile_id": "p"}, Target(kind="application", value="p")),
        ("status", {}, NOWHERE),
    ],
)
def test_target(part: str, fields: Fields, expected: Target) -> None:
    assert adapter().target(part, fields) == expected


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (RoutingMode.WEBHOOK, Target(kind="application", value="11")),
        (RoutingMode.SIP_TRUNK, Target(kind="connection", value="12")),
    ],
)
def test_planned_voice_leads_to_us(mode: RoutingMode, expected: Target) -> None:
    telnyx = adapter()

    assert telnyx.target("voice", telnyx.plan_voice(mode, URLS, OBJECTS)) == expected


def test_messages_are_planned_if_wanted() -> None:
    assert adapter().plan_webhooks(URLS, OBJECTS, sms=True) == {
        "sms": {"messaging_profile_id": "profile"}
    }
    assert adapter().plan_webhooks(URLS, OBJECTS, sms=False) == {}


def test_an_unknown_field_is_a_bug_and_is_not_sent() -> None:
    with pytest.raises(AssertionError, match="voice_url"):
        adapter().write_routing("1", {"voice_url": URLS.voice})


# --- the client -------------------------------------------------------------------------------


def test_the_sdk_is_loaded_by_the_first_use_only() -> None:
    code = (
        "import sys, worker.providers; sys.exit('telnyx' in sys.modules or 'httpx' in sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)  # noqa: S603 -- our own


def test_the_environment_lends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "PUBLIC_KEY", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.setenv(f"TELNYX_{name}", "planted")
    monkeypatch.setenv("TELNYX_BASE_URL", "http://planted.example.com")
    monkeypatch.setenv("TELNYX_CUSTOM_HEADERS", "Authorization: Bearer planted\nX-Planted: yes")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    sent: list[httpx.Request] = []
    answering(monkeypatch, {"data": []}, sent)

    adapter().verify_credentials(RoutingMode.WEBHOOK)

    assert str(sent[0].url).startswith("https://api.telnyx.com/v2/phone_numbers?")
    assert sent[0].headers["authorization"] == f"Bearer {KEY}"
    assert sent[0].headers["x-trunkline-attempt"] == "imp_1/route_number/1"
    assert "x-planted" not in sent[0].headers


def test_accounts_share_connections_and_nothing_else() -> None:
    one, two = adapter()._wire.client._client, adapter(api_key="KEY-other")._wire.client._client

    assert one._transport._shared is two._transport._shared
    assert one.cookies is not two.cookies
    assert not one.follow_redirects


def test_the_sdk_is_kept_quiet(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answering(monkeypatch, {"data": []}, [])

    adapter().verify_credentials(RoutingMode.WEBHOOK)

    assert not [record for record in caplog.records if record.name.startswith("telnyx")]


# --- answers that no sandbox gives ------------------------------------------------------------


def answering(monkeypatch: pytest.MonkeyPatch, document: object, sent: list[httpx.Request]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json=document)

    monkeypatch.setattr(transport, "_connections", lambda _: httpx.MockTransport(answer))


@pytest.mark.parametrize(
    ("call", "document"),
    [
        ("read_routing", {}),
        ("read_routing", {"data": None}),
        ("read_routing", {"data": {}}),
        ("read_routing", {"data": {"id": "2"}}),
        ("read_routing", []),
        ("read_routing", None),
        ("read_routing", "nonsense"),
        ("verify_credentials", {}),
        ("verify_credentials", {"data": None}),
        ("verify_credentials", {"data": "nonsense"}),
        ("verify_credentials", {"data": [None]}),
        ("verify_credentials", []),
        ("find_number", {}),
        ("find_number", {"data": {}}),
        ("find_number", {"data": {"found": None}}),
        ("find_number", {"data": {"found": [None]}}),
        ("find_number", {"data": {"found": []}}),  # which lists nothing when asked for a list
        ("remove_trunk", {"data": None}),
        ("remove_trunk", {"data": [{}]}),
    ],
)
def test_an_answer_without_sense_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, call: str, document: object
) -> None:
    answering(monkeypatch, document, [])
    telnyx = adapter()
    tag = type("Tag", (), {"name": "trunkline-imp-1"})()
    calls: dict[str, Callable[[], object]] = {
        "read_routing": lambda: telnyx.read_routing("1"),
        "verify_credentials": lambda: telnyx.verify_credentials(RoutingMode.WEBHOOK),
        "find_number": lambda: telnyx.find_number(E164("+14155550100"), None),
        "remove_trunk": lambda: telnyx.remove_trunk(tag, {}),
    }

    with pytest.raises(ProviderUnavailable) as caught:
        calls[call]()

    assert not caught.value.outcome_unknown


def test_a_profile_that_could_not_be_looked_up_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, {"data": {"id": "1", "messaging_profile_id": "UNAVAILABLE"}}, [])

    routing = adapter().read_routing("1")

    assert routing is not None
    assert routing.parts["sms"] == {"messaging_profile_id": ""}
