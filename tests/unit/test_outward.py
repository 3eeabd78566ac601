"""What a customer's URL must not make us do, tried against real servers on loopback."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.local.waiting import LOOPBACK, free_port
from tests.receiver import Receiver, Told, certify, receiving
from worker.domain.errors import InvalidRequest
from worker.outward import NotReached, is_public, post, vet_url

PUBLIC = "93.184.215.14"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def send(url: str, **changes: Any) -> int:
    return post(url, b"{}", {}, **{"allow_loopback": True, "timeout_seconds": 2, **changes}).status


# Addresses


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104 -- to be refused
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        f"::ffff:{PUBLIC}",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:0a00:0001::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    literal = f"[{address}]" if ":" in address else address
    with pytest.raises(InvalidRequest):
        vet_url(f"https://{literal}/", allow_loopback=False, resolve=False)
    with pytest.raises(InvalidRequest):
        post(f"https://{literal}/", b"", {}, allow_loopback=False, timeout_seconds=1)


@pytest.mark.parametrize("address", [PUBLIC, "2606:4700::1111", "64:ff9b::5db8:d70e"])
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_python_knows_no_special_address_that_is_not_refused() -> None:
    """Its own tables are another reading of the same registries."""
    tables = [
        network
        for constants in (ipaddress._IPv4Constants, ipaddress._IPv6Constants)  # type: ignore[attr-defined]
        for network in constants._private_networks
    ]
    for network in tables:
        assert not is_public(network[0]), network
        assert not is_public(network[-1]), network


# URLs


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://example.com/", "https"),
        ("ftp://example.com/", "https"),
        ("//example.com/", "https"),
        ("example.com", "https"),
        ("", "ASCII"),
        ("https://", "host"),
        ("https:///path", "host"),
        ("https://user@example.com/", "user name"),
        ("https://user:pw@example.com/", "user name"),
        ("https://@example.com/", "user name"),
        ("https://example.com/#part", "fragment"),
        ("https://example.com/#", "fragment"),
        ("https://example.com:0/", "host"),
        ("https://example.com:25/", "port"),
        ("https://example.com:80/", "port"),
        ("https://example.com:99999/", "not a URL"),
        ("https://example.com:a/", "not a URL"),
        ("https://localhost/", "public DNS"),
        ("https://intranet/", "public DNS"),
        ("https://example.com./", "public DNS"),
        ("https://a..example.com/", "public DNS"),
        ("https://127.1/", "public DNS"),
        ("https://2130706433/", "public DNS"),
        ("https://0x7f.0.0.1/", "public DNS"),
        ("https://0177.0.0.1/", "public DNS"),
        ("https://1.2.3.4.5/", "public DNS"),
        ("https://[2606:4700::1111%25eth0]/", "public DNS"),
        ("https://[::1/", "not a URL"),
        ("https://exa mple.com/", "ASCII"),
        ("https://example.com/\r\nX: y", "ASCII"),
        ("https://example.com\t/", "ASCII"),
        ("https://example.com\\@10.0.0.1/", "ASCII"),
        ("https://münchen.example/", "ASCII"),
        ("https://example.com/" + "a" * 2048, "2048"),
    ],
)
def test_a_url_that_cannot_be_called_is_refused_with_its_reason(url: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        vet_url(url, allow_loopback=False, resolve=False)
    with pytest.raises(InvalidRequest, match=says):
        post(url, b"", {}, allow_loopback=False, timeout_seconds=1)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "HTTPS://Example.com:8443/a/b?c=d&e=%20",
        "https://a_b.xn--mnchen-3ya.example/",
        f"https://{PUBLIC}/",
        "https://[2606:4700::1111]:8443/",
    ],
)
def test_a_url_on_the_public_internet_is_taken(url: str) -> None:
    vet_url(url, allow_loopback=False, resolve=False)


def test_no_message_shows_a_query() -> None:
    for url in ("https://10.0.0.1/?key=planted", "http://a.example/?key=planted"):
        with pytest.raises(InvalidRequest) as caught:
            vet_url(url, allow_loopback=False, resolve=False)
        assert "planted" not in str(caught.value)


def test_development_takes_http_on_loopback_and_nothing_else_more() -> None:
    vet_url("http://localhost:1/", allow_loopback=True, resolve=True)
    vet_url("http://127.0.0.1:80/", allow_loopback=True, resolve=True)
    vet_url("http://[::1]:80/", allow_loopback=True, resolve=True)
    for url in (f"http://{PUBLIC}/", "http://10.0.0.1/", f"https://{PUBLIC}:25/"):
        with pytest.raises(InvalidRequest):
            vet_url(url, allow_loopback=True, resolve=True)


def test_a_name_that_is_not_in_the_dns_now_may_be_there_later() -> None:
    url = "https://nobody.trunkline.invalid/?key=planted"
    vet_url(url, allow_loopback=False, resolve=True)
    with pytest.raises(NotReached, match="DNS") as caught:
        post(url, b"", {}, allow_loopback=False, timeout_seconds=5)
    assert "planted" not in str(caught.value)


# Names


Entry = tuple[Any, ...]


def answers(*addresses: str) -> Callable[..., list[Entry]]:
    """A resolver that answers each question with the next address."""
    left = list(addresses)

    def getaddrinfo(_host: object, port: object, **_: object) -> list[Entry]:
        address = left.pop(0)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (address, port))]

    return getaddrinfo


@pytest.fixture
def real_names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def use(*addresses: str) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", answers(*addresses))

    return use


def test_a_name_that_leads_inside_is_refused(real_names: Callable[..., None]) -> None:
    url = "https://inside.example/"
    real_names("10.0.0.1")
    with pytest.raises(InvalidRequest, match="private"):
        vet_url(url, allow_loopback=False, resolve=True)
    real_names("169.254.169.254")
    with pytest.raises(InvalidRequest, match="private"):
        post(url, b"", {}, allow_loopback=False)


def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [*answers(PUBLIC)("", 443), *answers("::1")("", 443)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    with pytest.raises(InvalidRequest, match="private"):
        post("https://both.example/", b"", {}, allow_loopback=False)


def test_a_name_that_changes_its_mind_does_not_lead_inside(
    receiver: Receiver, real_names: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    connected: list[object] = []

    class Fenced(socket.socket):
        """Lets nothing out of this machine."""

        def connect(self, address: Any) -> None:
            connected.append(address)
            if address[0] != LOOPBACK:
                raise ConnectionRefusedError
            super().connect(address)

    monkeypatch.setattr(socket, "socket", Fenced)
    url = f"https://rebinding.example:{receiver.port}/"
    real_names(PUBLIC, LOOPBACK)

    with pytest.raises(NotReached, match="refused"):
        post(url, b"", {}, allow_loopback=False, timeout_seconds=0.5)

    assert connected == [(PUBLIC, receiver.port)]
    # The next delivery asks anew, and refuses what it is told then.
    with pytest.raises(InvalidRequest, match="private"):
        post(url, b"", {}, allow_loopback=False, timeout_seconds=0.5)
    assert len(connected) == 1


def test_a_vetted_name_is_connected_to_as_it_was_vetted(
    receiver: Receiver, real_names: Callable[..., None]
) -> None:
    real_names(LOOPBACK)
    assert send(f"http://hook.example:{receiver.port}/a?b=c") == 200
    [got] = receiver.received
    assert (got.path, got.headers["host"]) == ("/a?b=c", f"hook.example:{receiver.port}")


def test_a_resolver_that_hangs_ends_with_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def hang(*_: object, **__: object) -> list[Entry]:
        gate.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    began = time.monotonic()
    with pytest.raises(NotReached, match="in time"):
        post("https://slow.example/", b"", {}, allow_loopback=False, timeout_seconds=0.2)
    assert time.monotonic() - began < 2
    gate.set()


# Requests


def test_a_post_arrives_whole(receiver: Receiver) -> None:
    reply = post(
        f"http://localhost:{receiver.port}/hook?a=b%20c",
        b'{"a": 1}',
        {"X-One": "1"},
        allow_loopback=True,
    )

    assert reply.status == 200
    [got] = receiver.received
    assert (got.method, got.path, got.body) == ("POST", "/hook?a=b%20c", b'{"a": 1}')
    assert got.headers["host"] == f"localhost:{receiver.port}"
    assert (got.headers["x-one"], got.headers["content-length"]) == ("1", "8")


def test_loopback_needs_the_setting(receiver: Receiver) -> None:
    with pytest.raises(InvalidRequest):
        post(receiver.url, b"", {}, allow_loopback=False)
    assert receiver.received == []


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.script = lambda _: Told(status=307, headers={"Location": receiver.url})
    assert send(receiver.url) == 307
    assert len(receiver.received) == 1


def test_a_proxy_of_the_environment_is_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{LOOPBACK}:1")
    assert send(receiver.url) == 200


def test_retry_after_is_handed_over(receiver: Receiver) -> None:
    receiver.script = lambda _: Told(status=503, headers={"Retry-After": "7"})
    reply = post(receiver.url, b"", {}, allow_loopback=True)
    assert (reply.status, reply.retry_after) == (503, "7")


def test_a_refused_connection_is_named() -> None:
    with pytest.raises(NotReached, match="refused"):
        send(f"http://{LOOPBACK}:{free_port()}/?key=planted")


@contextmanager
def speaking(speak: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does what no HTTP library would."""
    with socket.create_server((LOOPBACK, 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                asked = b""
                while not asked.endswith(b"{}"):
                    asked += connection.recv(65536)
                try:
                    speak(connection)
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://{LOOPBACK}:{server.getsockname()[1]}/"
        thread.join(10)


def trickle(connection: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


def interim(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.01)


def silence(connection: socket.socket) -> None:
    connection.recv(1)


@pytest.mark.parametrize("speak", [trickle, interim, silence])
def test_no_answer_takes_longer_than_the_deadline(speak: Callable[[socket.socket], None]) -> None:
    with speaking(speak) as url:
        began = time.monotonic()
        with pytest.raises(NotReached, match=r"within 0\.5 seconds"):
            send(url, timeout_seconds=0.5)
        assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 20", b"X" * 300_000])
def test_what_is_no_answer_is_named(said: bytes) -> None:
    with speaking(lambda connection: connection.sendall(said)) as url, pytest.raises(NotReached):
        send(url)


def test_an_endless_body_is_not_read() -> None:
    sent = 0

    def endless(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(100):
            sent += connection.send(bytes(1_000_000))

    with speaking(endless) as url:
        began = time.monotonic()
        assert send(url, timeout_seconds=5) == 200
        assert time.monotonic() - began < 2
    assert sent < 50_000_000


def test_a_body_that_is_cut_off_changes_no_status() -> None:
    said = b"HTTP/1.1 204 OK\r\nContent-Length: 100\r\n\r\nhalf"
    with speaking(lambda connection: connection.sendall(said)) as url:
        assert send(url) == 204


# TLS


def test_tls_is_checked_against_the_name(tmp_path: Path) -> None:
    server_side, trust = certify(tmp_path, "localhost")
    with receiving(server_side) as receiver:
        url = f"https://localhost:{receiver.port}/"
        assert send(url, trust=trust) == 200
        with pytest.raises(NotReached, match="certificate was not accepted"):
            send(url)
        with pytest.raises(NotReached, match=r"not accepted: .*mismatch"):
            send(f"https://{LOOPBACK}:{receiver.port}/?key=planted", trust=trust)
    assert len(receiver.received) == 1


def test_tls_names_the_host_and_not_its_address(
    tmp_path: Path, real_names: Callable[..., None]
) -> None:
    server_side, trust = certify(tmp_path, "hook.example")
    names: list[str | None] = []
    server_side.sni_callback = lambda _socket, name, _context: names.append(name)
    with receiving(server_side) as receiver:
        real_names(LOOPBACK)
        assert send(f"https://hook.example:{receiver.port}/", trust=trust) == 200
    assert names == ["hook.example"]


def test_a_server_without_tls_is_named(receiver: Receiver) -> None:
    with pytest.raises(NotReached, match="TLS handshake failed"):
        send(receiver.url.replace("http:", "https:"))
