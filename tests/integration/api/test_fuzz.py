"""Whatever comes in, byte by byte: never our failure, never a trace of what was refused.

What is sent begins as what somebody could mean and is then bent; the same every time.
``TRUNKLINE_FUZZ_EXAMPLES`` is how many requests there are of each kind.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from deploy.local.waiting import LOOPBACK, free_port
from tests.integration.api.conftest import (
    SID,
    TOKEN,
    Platform,
    Tenant,
    api_process,
    new_number,
    new_request,
)
from tests.integration.api.lines import VENDORS, Line, active, sign

_EXAMPLES: Final = int(os.environ.get("TRUNKLINE_FUZZ_EXAMPLES", "6"))
#: Far more than any of them takes, but of a machine that does much else.
_BOUND_SECONDS: Final = 20
ID: Final = "0" * 32
_USER: Final = "6" * 24
fuzzed = settings(
    max_examples=_EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    # A failure is shown as it came: to make it smaller takes hundreds of requests.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
PLANTED: Final = "planted-9041"
#: What a parser, a database, a log, a header or a spreadsheet may choke on.
NASTY: Final = (
    *("", " ", "\0", "\x01", "\x1b[31m", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\ufffe"),
    *("\r\n", f"\r\nSet-Cookie: {PLANTED}=1", f"a\nX-{PLANTED}: 1", "%0d%0a", "%00", "%"),
    *("'", '"', "\\", "';--", "{}", "[]", "${7*7}", "{{7*7}}", "%s%n", "../" * 8, "<a>&amp;"),
    *("=1+1", "+1", "-1", "@x", "\t=1", "nan", "Infinity", "1e999", "-0", "0x10", "١٢٣"),
    *("é", "e\u0301" * 50, "\U0001f600", "𝔄", "ß", "İ", "ﷺ", "x" * 5000, "\ud800"),
    *("imp_" + ID, "num_" + ID, "agt_" + "f" * 32, ID, "null", "true", "[object Object]"),
)
LEAVES: Final = st.one_of(
    st.sampled_from(NASTY),
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from((0, -1, 2**31, 2**63, -(2**63) - 1, 10**400, 1e308, -0.0, 5e-324)),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=40),
    st.just([]),
    st.just({}),
    st.recursive(
        st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.just({"a": 1}),
        max_leaves=40,
    ),
)


@dataclass(kw_only=True)
class Target:
    """An API process of its own, which waits for no import, and what it was asked."""

    platform: Platform
    tenant: Tenant
    url: str
    log: Callable[[], str]
    client: httpx.Client
    #: An agent's UUID, and the id of an active number.
    agent: str
    number_id: str
    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    slowest: float = 0.0

    def stored(self) -> dict[str, int]:
        """How much there is of everything that a request may make."""
        tables = ("import_jobs", "phone_numbers", "credentials", "batches", "agents", "users")
        names = (*tables, "api_keys")
        counts = ", ".join(
            f"(SELECT count(*) FROM {name} WHERE organization_id = :id)"  # noqa: S608 -- ours
            for name in names
        )
        [row] = self.platform.sql(f"SELECT {counts}", id=self.tenant.uuid)
        return dict(zip(names, row, strict=True))

    def send(self, kind: str, method: str, path: str, **request: Any) -> httpx.Response:
        """Sends a request and checks what holds of every answer."""
        before = self.stored()
        begun = time.monotonic()
        answer = self.client.request(method, path, **request)
        self.slowest = max(self.slowest, time.monotonic() - begun)
        self.counts[kind, answer.status_code] += 1
        assert answer.status_code < 500, (answer.status_code, answer.text)
        if answer.status_code >= 400:
            assert self.stored() == before, "something was stored of what was refused"
        self.has_plain_headers(answer)
        return answer

    @staticmethod
    def has_plain_headers(answer: httpx.Response) -> None:
        for name, value in answer.headers.multi_items():
            assert PLANTED not in name + value, (name, value)
            assert re.fullmatch(r"[ -~]*", value), (name, value)


@pytest.fixture(scope="module")
def target(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    unlimited = dict.fromkeys(("imports_per_minute", "batches_per_minute", "looks_per_minute"), 0)
    changed = platform.settings.model_copy(update={"dialect_wait_seconds": 0.0, **unlimited})
    url = f"http://{LOOPBACK}:{free_port()}"
    process = api_process(changed, tmp_path_factory.mktemp("fuzzed"), url)
    process.start()
    tenant = platform.tenant()
    headers = {"X-Api-Key": tenant.key, "X-Organization-Id": tenant.organization_id}
    client = httpx.Client(base_url=url, headers=headers, timeout=_BOUND_SECONDS, trust_env=False)
    # What bent requests may name.
    tenant.store()
    tenant.http.post("/v1/users", json={"name": "u", "external_id": _USER})
    agent = tenant.http.post("/v1/agents", json={"name": "a", "dispatch_name": "a"}).json()["id"]
    import_id = tenant.submit()["id"]
    platform.finish_all(import_id)
    number_id = tenant.http.get(f"/v1/imports/{import_id}").json()["phone_number_id"]
    target = Target(
        platform=platform,
        tenant=tenant,
        url=url,
        log=process.log_file.read_text,
        client=client,
        agent=agent.removeprefix("agt_"),
        number_id=number_id,
    )
    try:
        yield target
        assert client.get("/readyz").json()["database"] == "ok"
        log = target.log()
        for sign_of_failure in ("Traceback", '"request failed"', "exception"):
            assert sign_of_failure not in log, log[log.index(sign_of_failure) - 2000 :][:4000]
        for (kind, status), count in sorted(target.counts.items()):
            print(f"{kind:40} {status} {count:>7}")  # noqa: T201 -- with -s, for a long run
        print(f"slowest answer: {target.slowest:.2f} s")  # noqa: T201
    finally:
        client.close()
        process.stop()


# Bodies of JSON


def _login(target: Target) -> dict[str, str]:
    return {"Authorization": "Bearer " + target.tenant.key.removeprefix("tl_").replace("_", ":", 1)}


def _import(_: Target) -> dict[str, Any]:
    sip = {"address": "sip.example.com", "username": "u", "password": "p", "transport": "tls"}
    inbound = {"room_pattern": "call-", "pin": "1234", "voicemail_message": "Speak."}
    return {
        **new_request(),
        "friendly_name": "Desk",
        "price": 1.5,
        "metadata": {"a": [1, {"b": None}]},
        "sip": {**sip, "allowed_addresses": ["203.0.113.0/30"]},
        "inbound": inbound,
        "callback_url": "https://93.184.216.34/hook",
    }


def _batch(target: Target) -> dict[str, Any]:
    return {"defaults": {"provider": "twilio"}, "items": [_import(target), new_request()]}


BODIES: Final[Mapping[str, Callable[[Target], dict[str, Any]]]] = {
    "POST /v1/imports": _import,
    "POST /v1/imports/preflight": _import,
    "POST /v1/batches": _batch,
    "POST /v1/credentials": lambda _: {
        "provider": "plivo",
        "label": "Main",
        "credentials": {"auth_id": "MA000000000000000001", "auth_token": TOKEN},
    },
    "PATCH /v1/phone-numbers/NUMBER": lambda _: {"friendly_name": "x", "inbound": {"pin": "1234"}},
    "POST /v1/users": lambda _: {"name": "u", "external_id": f"u{time.monotonic_ns()}"},
    "POST /v1/agents": lambda _: {"name": "a", "dispatch_name": "a"},
    "POST /v1/api-keys": lambda _: {"name": "k", "role": "viewer"},
    "POST /dialects/ravan/api/v1/phone-numbers/add-twilio": lambda _: {
        "phone_number": new_number(),
        "number_sid": f"PN{'1' * 32}",
        "price": 1.15,
    },
    "POST /dialects/butter/api/phone-numbers": lambda _: {
        "phone_number": new_number(),
        "provider": "sip",
        "supports_outbound": True,
        "sip_server_address": "sip.example.com",
        "sip_username": "u",
        "sip_password": "p",
    },
    "POST /dialects/weya/api/call/add-phone": lambda _: {
        "userId": _USER,
        "phoneNumber": new_number(),
        "integration": "telnyx",
        "authToken": TOKEN,
        "accSId": "17",
    },
    "POST /dialects/nixflex/v1/phone-numbers": lambda _: {
        "phone_number": new_number(),
        "twilio_sid": SID,
        "twilio_token": TOKEN,
        "agent_id": f"agent_{ID}",
    },
    "POST /dialects/oneinbox/v1/phone-numbers": lambda target: {
        "phone_number": new_number(),
        "provider": "twilio",
        "agent_id": target.agent,
        "provider_config": {
            "trunk_address": "sip.example.com",
            "auth_username": "u",
            "auth_password": "p",
        },
    },
}


def _places(value: Any) -> Iterator[tuple[Any, ...]]:
    yield ()
    inside: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list):
        inside = enumerate(value)
    for name, one in inside:
        for place in _places(one):
            yield (name, *place)


def _bent(value: Any, place: Sequence[Any], change: Callable[[Any], Any]) -> Any:
    if not place:
        return change(value)
    copy = value.copy()
    copy[place[0]] = _bent(value[place[0]], place[1:], change)
    return copy


@pytest.mark.parametrize("route", BODIES)
@fuzzed
@given(data=st.data())
def test_a_body_whose_values_are_bent(target: Target, route: str, data: st.DataObject) -> None:
    body = BODIES[route](target)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(list(_places(body))))
        new = data.draw(LEAVES)
        name = data.draw(st.none() | st.sampled_from(NASTY) | st.text(max_size=10))

        def change(old: Any, name: str | None = name, new: Any = new) -> Any:
            return {**old, name: new} if isinstance(old, dict) and name is not None else new

        body = _bent(body, place, change)
    _send_json(target, "values", route, json.dumps(body).encode())


@pytest.mark.parametrize("route", BODIES)
@fuzzed
@given(data=st.data())
def test_a_body_whose_bytes_are_bent(target: Target, route: str, data: st.DataObject) -> None:
    whole = json.dumps(BODIES[route](target)).encode()
    _send_json(target, "bytes", route, _mangled(data, whole))


def _send_json(target: Target, kind: str, route: str, body: bytes) -> None:
    method, _, path = route.replace("NUMBER", target.number_id).partition(" ")
    headers = {"Content-Type": "application/json"}
    if "nixflex" in path:
        headers |= _login(target)
    target.send(f"{kind} {route}", method, path, content=body, headers=headers)


def _mangled(data: st.DataObject, whole: bytes) -> bytes:
    """Bytes cut, doubled, replaced or put in."""
    found = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(found)))
        length = data.draw(st.integers(0, 20))
        new = data.draw(
            st.binary(max_size=8)
            | st.sampled_from([one.encode(errors="surrogatepass") for one in NASTY])
            | st.sampled_from(
                [b"", b"[" * 2000, b'{"a":' * 500, b"9" * 4400, b'"\\ud800"', b"\xff"]
            )
            | st.just(bytes(found[start : start + length]) * 2)
        )
        found[start : start + length] = new
    return bytes(found)


# CSV


@fuzzed
@given(data=st.data())
def test_a_csv_that_is_bent(target: Target, data: st.DataObject) -> None:
    header = "phone_number,provider,friendly_name,supports_outbound,inbound.pin,metadata.note,price"
    columns = [*header.split(","), "credentials.account_sid", "credentials.auth_token"]
    cells = st.sampled_from(NASTY).map(lambda text: text.encode(errors="replace").decode())
    rows = [
        [
            new_number(),
            "twilio",
            data.draw(cells),
            "true",
            "1234",
            data.draw(cells),
            "1",
            SID,
            TOKEN,
        ]
        for _ in range(data.draw(st.integers(0, 3)))
    ]
    quote_all = data.draw(st.booleans())
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r", ""]))
    lines = [
        ",".join('"' + cell.replace('"', '""') + '"' if quote_all else cell for cell in row)
        for row in (columns, *rows)
    ]
    codec = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"]))
    whole = end.join(lines).encode(codec, errors="replace")
    body = _mangled(data, whole) if data.draw(st.booleans()) else whole
    answer = target.send(
        "csv", "POST", "/v1/batches", content=body, headers={"Content-Type": "text/csv"}
    )
    assert TOKEN not in answer.text


# Paths, queries and headers


@fuzzed
@given(data=st.data())
def test_a_path_a_query_and_headers_that_are_bent(target: Target, data: st.DataObject) -> None:
    texts = st.sampled_from(NASTY) | st.text(max_size=20)

    def drawn(limit: int = 200) -> str:
        text = data.draw(texts).encode(errors="replace").decode()[:limit]
        return quote(text, safe=data.draw(st.sampled_from(["", "/%:;@"])))

    kind = data.draw(
        st.sampled_from(["imports", "phone-numbers", "credentials", "batches", "agents"])
    )
    path = f"/v1/{kind}" + data.draw(st.sampled_from(["", "/", f"/imp_{ID}"]))
    path += f"/{drawn()}" * data.draw(st.integers(0, 2))
    names = ("cursor", "limit", "status", "batch", "phone_number", "wait", "x", drawn(20))
    query = "&".join(
        f"{data.draw(st.sampled_from(names))}={drawn()}"
        for _ in range(data.draw(st.integers(0, 3)))
    )
    headers = {}
    for name in ("Idempotency-Key", "Prefer", "If-None-Match", "X-Request-Id", "Accept", "Host"):
        if data.draw(st.booleans()):
            value = data.draw(texts).encode("latin-1", errors="ignore")
            headers[name] = re.sub(rb"[\0\r\n]|^\s+|\s+$", b"", value)[:2000]
    if "wait" in query:
        headers["If-None-Match"] = b"*"
    method = data.draw(st.sampled_from(["GET", "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"]))
    target.send("path", method, f"{path}?{query}", headers=headers)


# What need not be HTTP at all


@fuzzed
@given(data=st.data())
def test_bytes_that_were_http_once(target: Target, data: st.DataObject) -> None:
    body = json.dumps(new_request()).encode()
    whole = (
        b"POST /v1/imports HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\n"
        b"X-Api-Key: " + target.tenant.key.encode() + b"\r\nConnection: close\r\n"
        b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )
    sent = _mangled(data, whole)
    parts = urlsplit(target.url)
    begun = time.monotonic()
    with socket.create_connection((parts.hostname or "", parts.port or 0), 5) as connection:
        connection.settimeout(_BOUND_SECONDS)
        received = b""
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                received += chunk
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert time.monotonic() - begun < _BOUND_SECONDS
    # Nothing at all is an answer, too: to half a request, or to none.
    assert re.match(rb"HTTP/1\.1 [234]", received) or not received, received[:200]
    target.counts["raw bytes", int(received[9:12] or 0)] += 1


# Callbacks


@pytest.fixture(scope="module")
def lines(platform: Platform) -> dict[str, Line]:
    return {vendor: active(platform, platform.tenant(), vendor) for vendor in VENDORS}


@pytest.mark.parametrize("vendor", VENDORS)
@fuzzed
@given(data=st.data())
def test_a_callback_that_is_bent_signed_or_not(
    target: Target, lines: Mapping[str, Line], vendor: str, data: st.DataObject
) -> None:
    line = lines[vendor]
    kind = data.draw(st.sampled_from(["voice", "dialed", "status", "sms", "recording"]))
    fields = line.call(
        MessageSid="SM1", Body="hi", RecordingUrl="https://api.example.com/r", RecordingSid="RE1"
    )
    for name in data.draw(st.lists(st.sampled_from(list(fields)), max_size=3)):
        fields[name] = data.draw(st.sampled_from(NASTY)).encode(errors="replace").decode()
    form = "&".join(f"{quote(name)}={quote(value)}" for name, value in fields.items()).encode()
    event = json.dumps(
        {"data": {"event_type": "message.received", "id": data.draw(LEAVES), "payload": fields}}
    ).encode()
    body = data.draw(st.sampled_from([form, event]))
    if data.draw(st.booleans()):
        body = _mangled(data, body)
    type_ = data.draw(
        st.sampled_from(["application/x-www-form-urlencoded", "application/json", "", "a/b;c=\xe9"])
    )
    signed = sign(vendor, line.url(kind), body) if data.draw(st.booleans()) else {}
    before = line.stored()
    answer = target.send(
        f"callback {vendor}",
        "POST",
        line.path(kind),
        content=body,
        headers={"Content-Type": type_.encode("latin-1"), **signed},
    )
    if not signed:
        assert answer.status_code in (403, 413)
    assert answer.status_code < 400 or line.stored() == before
