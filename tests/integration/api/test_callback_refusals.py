"""What is no provider's request for this number: refused over real HTTP, and never our failure."""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from tests.integration.api.conftest import TOKEN, Platform, Tenant, problem
from tests.integration.api.lines import (
    CALLER,
    FORM,
    VENDORS,
    Line,
    active,
    message,
    sign,
)
from tests.integration.api.test_callbacks import WRONG, refused, xml

PLANTED = "planted-text-4711"


@pytest.fixture(params=VENDORS)
def line(request: pytest.FixtureRequest, platform: Platform, tenant: Tenant) -> Line:
    return active(platform, tenant, request.param)


def test_what_is_not_signed_is_refused(line: Line) -> None:
    for kind in ("voice", "dialed", "status", "sms", "recording"):
        client = line.platform.client()
        refused(line, client.post(line.path(kind), data=line.call()))
        refused(line, client.post(line.path(kind), content=b""))


def test_what_somebody_else_signed_is_refused(line: Line) -> None:
    secret = WRONG[line.vendor]
    for kind in ("voice", "dialed", "status", "sms", "recording"):
        refused(line, line.send(kind, secret=secret))  # type: ignore[arg-type]


def test_a_body_that_was_changed_is_refused(line: Line) -> None:
    body = urlencode(line.call()).encode()
    headers = {"Content-Type": FORM, **sign(line.vendor, line.url("status"), body)}

    answer = line.platform.client().post(
        line.path("status"), content=body + b"&Extra=1", headers=headers
    )

    refused(line, answer)


def test_a_request_for_one_number_is_refused_at_another_s_url(
    platform: Platform, tenant: Tenant, line: Line
) -> None:
    other = active(platform, tenant, line.vendor)
    body = urlencode(line.call()).encode()
    for kind in ("voice", "dialed", "status", "recording"):
        # As it was sent to the one number; only Telnyx's signature would let it pass.
        headers = {"Content-Type": FORM, **sign(line.vendor, line.url(kind), body)}
        refused(other, platform.client().post(other.path(kind), content=body, headers=headers))


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_request_is_about_its_number_even_if_it_is_signed_for_the_url(
    platform: Platform, tenant: Tenant, vendor: str
) -> None:
    line = active(platform, tenant, vendor)
    stranger = "+12125550199"

    refused(line, line.send("voice", line.call(To=line.party(stranger))))
    refused(line, line.send("voice", line.call(To=line.party(stranger), From="anonymous")))
    refused(line, line.send("status", line.call(To=line.party(stranger))))
    outbound = {"Direction": "outbound-api" if vendor != "plivo" else "outbound"}
    refused(line, line.send("status", line.call(**outbound)))


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_number_may_be_written_in_many_ways(
    platform: Platform, tenant: Tenant, vendor: str
) -> None:
    line = active(platform, tenant, vendor)
    bare = line.number.removeprefix("+")
    ways = [line.number, bare, f"00{bare}", bare[1:], f"0{bare[1:]}"]
    ways += [f"sip:{line.number}@sip.example.com", f"sip:{bare}@sip.example.com;transport=udp"]
    # What does not name a number says nothing against this one.
    ways += ["", "sip:reception@sip.example.com", "anonymous", "client:anna"]
    for way in ways:
        assert [verb.tag for verb in xml(line.send("voice", line.call(To=way)))] == ["Dial"], way
    assert xml(line.send("voice", line.call(To=None))).tag == "Response"
    outbound = {"Direction": "outbound-dial" if vendor != "plivo" else "outbound"}
    mine = line.call(From=line.party(line.number), To=line.party(CALLER), **outbound)
    assert line.send("status", mine).status_code == 200
    assert line.stored() == 1


def test_messages_of_others_are_refused_at_telnyx(platform: Platform, tenant: Tenant) -> None:
    line, other = active(platform, tenant, "telnyx"), active(platform, tenant, "telnyx")
    body = message(line, text=PLANTED)

    for kind in ("sms", "voice", "dialed"):
        refused(other, other.send(kind, body, headers={"Content-Type": "application/json"}))
    answer = line.send("sms", body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    assert [event["data"]["text"] for event in line.events()] == [PLANTED]


def test_an_old_request_of_telnyx_is_refused(platform: Platform, tenant: Tenant) -> None:
    line = active(platform, tenant, "telnyx")

    for ago in (310, -310, 86400):
        refused(line, line.send("status", ago=ago))
    assert line.send(ago=290).status_code == 200


def test_another_kind_than_was_signed_is_refused(platform: Platform, tenant: Tenant) -> None:
    for vendor in ("twilio", "plivo"):
        line = active(platform, tenant, vendor)
        body = urlencode(line.call()).encode()
        headers = {"Content-Type": FORM, **sign(vendor, line.url("voice"), body)}

        refused(line, platform.client().post(line.path("status"), content=body, headers=headers))
        answer = platform.client().post(
            f"{line.path('voice')}?tried=agent", content=body, headers=headers
        )
        refused(line, answer)


def test_a_forged_host_changes_nothing(line: Line) -> None:
    evil = "evil.example.com"
    body = urlencode(line.call()).encode()
    forged = {
        "Host": evil,
        "X-Forwarded-Host": evil,
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Prefix": "/evil",
        "X-Original-URL": "/callbacks/evil",
        "Forwarded": f"host={evil};proto=http",
    }

    assert [verb.tag for verb in xml(line.send(headers=forged))] == ["Dial"]
    if line.vendor == "telnyx":
        return  # leaves the URL out of what it signs
    for url in (f"http://{evil}{line.path()}", f"https://{evil}{line.path()}"):
        headers = {"Content-Type": FORM, **sign(line.vendor, url, body), **forged}
        refused(line, line.platform.client().post(line.path(), content=body, headers=headers))


def test_a_host_that_carries_another_path_does_not_become_what_was_signed(
    platform: Platform, tenant: Tenant
) -> None:
    line, other = active(platform, tenant), active(platform, tenant)
    body = urlencode(line.call()).encode()
    signed = {"Content-Type": FORM, **sign("twilio", line.url(), body)}
    for host in (f"x{line.path()}#", f"x{line.path()}?", f"x{line.path()}/", f"x@{line.path()}"):
        answer = platform.client().post(
            other.path(), content=body, headers={**signed, "Host": host}
        )
        assert 400 <= answer.status_code < 500, host
        assert "Dial" not in answer.text


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.replace("/callbacks", "//callbacks"),
        lambda path: path.replace("/voice/", "//voice/"),
        lambda path: path.replace("/voice/", "%2fvoice/"),
        lambda path: path.replace("/voice/", "/voice%2F"),
        lambda path: path.replace("/voice/", "/%76oice/"),
        lambda path: path.replace("num_", "NUM_"),
        lambda path: path.replace("num_", "num%5f"),
        lambda path: path.replace("num_", "imp_"),
        lambda path: f"{path}/",
        lambda path: f"{path}%00",
        lambda path: f"{path}%20",
        lambda path: f"{path}%ff",
        lambda path: f"{path}%3Fx=1",
        lambda path: f"{path}%23",
        lambda path: f"{path};x",
        lambda path: f"{path}?x=1",
        lambda path: f"{path}?%ff=%ff",
        lambda path: path.replace("/voice/", "/VOICE/"),
        lambda path: path.replace("/voice/", "/nonsense/"),
        lambda path: path.replace("twilio", "acme"),
        lambda path: path.replace("twilio", "TWILIO"),
        lambda path: path.replace("twilio", "sip"),
        lambda path: path.replace("twilio", "telnyx"),
        lambda path: path.rpartition("/")[0] + "/num_0",
        lambda path: path.rpartition("/")[0] + "/",
        lambda path: path.rpartition("/")[0] + f"/num_{uuid4().hex}",
    ],
)
def test_path_tricks_lead_nowhere(platform: Platform, tenant: Tenant, change: object) -> None:
    line = active(platform, tenant)
    body = urlencode(line.call()).encode()
    assert callable(change)
    headers = {"Content-Type": FORM, **sign("twilio", line.url(), body)}

    answer = platform.client().post(change(line.path()), content=body, headers=headers)

    assert answer.status_code in (400, 403, 404, 405), answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_an_unknown_number_and_another_provider_s_are_refused_alike(
    platform: Platform, tenant: Tenant
) -> None:
    line = active(platform, tenant, "plivo")
    body = urlencode(line.call()).encode()
    base = platform.settings.public_base_url
    found = []
    for path in (
        f"/callbacks/twilio/voice/num_{uuid4().hex}",
        "/callbacks/twilio/voice/num_0",
        f"/callbacks/twilio/voice/{line.id}",
        f"/callbacks/sip/voice/{line.id}",
    ):
        headers = {"Content-Type": FORM, **sign("twilio", base + path, body)}
        answer = platform.client().post(path, content=body, headers=headers)
        found.append(problem(answer, 403, "invalid_signature"))
    assert [one == found[0] for one in found] == [True] * 4


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_a_post_is_answered(line: Line, method: str) -> None:
    signed = sign(line.vendor, line.url(), b"")

    answer = line.platform.client().request(method, line.path(), headers=signed)

    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


# --- odd bodies and headers -------------------------------------------------------------------


def test_twilio_s_json_counts_by_its_hash_in_the_url(platform: Platform, tenant: Tenant) -> None:
    line = active(platform, tenant)
    body = b'{"CallSid": "CA1"}'
    digest = hashlib.sha256(body).hexdigest()
    for query, status in ((f"?bodySHA256={digest}", 200), ("?bodySHA256=0", 403), ("", 403)):
        url = line.url() + query
        mac = hmac.new(TOKEN.encode(), url.encode(), hashlib.sha1).digest()
        signed = {"X-Twilio-Signature": base64.b64encode(mac).decode()}
        answer = platform.client().post(
            line.path() + query,
            content=body,
            headers={"Content-Type": "application/json", **signed},
        )
        assert answer.status_code == status, query


def test_a_signature_header_that_comes_twice_is_refused(platform: Platform, tenant: Tenant) -> None:
    for vendor, name in (
        ("twilio", "X-Twilio-Signature"),
        ("telnyx", "telnyx-signature-ed25519"),
        ("telnyx", "telnyx-timestamp"),
        ("plivo", "X-Plivo-Signature-V3-Nonce"),
    ):
        line = active(platform, tenant, vendor)
        body = urlencode(line.call()).encode()
        headers = list({"Content-Type": FORM, **sign(vendor, line.url(), body)}.items())
        for more in ([*headers, (name, "x")], [(name, "x"), *headers]):
            refused(line, platform.client().post(line.path(), content=body, headers=more))


@pytest.mark.parametrize("kind", ["voice", "dialed", "status", "sms", "recording"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"&&&&",
        b"=",
        b"%",
        b"%zz=%",
        b"\xff\xfe\x00",
        b"To=%ff&From=%00&CallSid=%00",
        b"CallSid=%00&CallUUID=%00&CallStatus=%00&MessageSid=a%00&RecordingSid=%00",
        urlencode({"CallSid": "c" * 9000, "CallUUID": "c" * 9000, "CallStatus": "x"}).encode(),
        urlencode({"CallSid": "é", "CallUUID": "é", "CallStatus": "completed"}).encode(),
        b"&".join(b"f%d=1" % n for n in range(501)),
        b"&".join(b"CallSid=1" for _ in range(499)),
        b'{"data":',
        b'{"data": {"event_type": "message.received"}}',
        b'{"data": {"id": "\\u0000", "event_type": "message.received", "payload": {"id": "1"}}}',
        b'{"data": {"id": "\\ud800", "event_type": "message.received", "payload": {"id": "1"}}}',
        b"[" * 20000,
        b'{"data": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda body: str(body[:24]),
)
def test_no_body_is_our_failure_and_none_leaves_a_trace(line: Line, kind: str, body: bytes) -> None:
    json_like = body[:1] in (b"{", b"[")
    with line.platform.without_failure():
        for content_type in (
            ("application/json",) if json_like else (FORM, f"{FORM}; charset=x", "")
        ):
            answer = line.send(kind, body, headers={"Content-Type": content_type})
            assert answer.status_code in (200, 400, 403), answer.text
            bare = line.platform.client().post(
                line.path(kind), content=body, headers={"Content-Type": content_type}
            )
            problem(bare, 403, "invalid_signature")
    events = line.events()
    assert len(events) == line.stored() <= 1


def test_a_body_over_the_limit_is_refused(line: Line) -> None:
    answer = line.send("status", b"Field=" + b"x" * 65536)

    problem(answer, 413, "payload_too_large")
    assert line.stored() == 0


@pytest.mark.parametrize("value", ["é", "\x7f", "x y", "=" * 5000, "a,b", "::", "-1", "9" * 20])
def test_no_header_is_our_failure(line: Line, value: str) -> None:
    for name in (
        "X-Twilio-Signature",
        "X-Twilio-Webhooks-Signature-Settings",
        "telnyx-timestamp",
        "telnyx-signature-ed25519",
        "X-Plivo-Signature-V3",
        "X-Plivo-Signature-V3-Nonce",
        "X-Plivo-Signature-V2",
        "X-Trunkline-Probe",
        "Content-Type",
    ):
        answer = line.send(headers={name: value.encode("latin-1")})  # type: ignore[dict-item]
        assert answer.status_code in (200, 400, 403), (name, answer.text)


def test_nothing_of_a_request_is_logged(line: Line) -> None:
    fields = line.call(Body=PLANTED, Text=PLANTED, CallSid=PLANTED, From=line.party("+12025550188"))
    line.send("status", {**fields, "CallUUID": PLANTED})
    line.send("status", fields, secret=WRONG[line.vendor])  # type: ignore[arg-type]
    line.platform.client().post(f"{line.path()}?{PLANTED}", content=PLANTED.encode())

    log = line.platform.log()
    for secret in (PLANTED, "2025550188", line.id, line.number, TOKEN):
        assert secret not in log
