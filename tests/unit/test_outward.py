"""What a customer's URL must not make us do, tried against real servers on loopback."""

from __future__ import annotations

import gzip
import ipaddress
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.local.waiting import LOOPBACK, free_port
from tests.receiver import Receiver, Told, certify, receiving
from worker.addresses import NotReached, Resolver, is_public
from worker.domain.errors import InvalidRequest
from worker.outward import post, vet_url

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
        vet_url(f"https://{literal}/", allow_loopback=False, look_up=False)
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
        ("https://127.0.0.1./", "public DNS"),
        ("https://0/", "public DNS"),
        ("https://0x7f000001/", "public DNS"),
        ("https://017700000001/", "public DNS"),
        ("https://127.0.0.1.nip.io@10.0.0.1/", "user name"),
        ("https://example.com%2f@10.0.0.1/", "user name"),
        ("https://example.com%00.10.0.0.1/", "public DNS"),
        ("https://[::ffff:10.0.0.1]:443.example.com/", "not a URL"),
        ("https://example.com:443:80/", "not a URL"),
        ("https://example.com:-1/", "not a URL"),
        ("https://example.com:٤٤٣/", "ASCII"),
        ("https://ex\u0430mple.com/", "ASCII"),
        ("https://①②⑦.⓪.⓪.①/", "ASCII"),
        ("https://127。0。0。1/", "ASCII"),
        ("https://-example.com/", "public DNS"),
        ("https:example.com/", "host"),
        ("javascript:alert(1)", "https"),
        ("file:///etc/passwd", "https"),
        ("gopher://127.0.0.1:6379/_FLUSHALL", "https"),
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
        vet_url(url, allow_loopback=False, look_up=False)
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
    vet_url(url, allow_loopback=False, look_up=False)


def test_no_message_shows_a_query() -> None:
    for url in ("https://10.0.0.1/?key=planted", "http://a.example/?key=planted"):
        with pytest.raises(InvalidRequest) as caught:
            vet_url(url, allow_loopback=False, look_up=False)
        assert "planted" not in str(caught.value)


def test_development_takes_http_on_loopback_and_nothing_else_more() -> None:
    vet_url("http://localhost:1/", allow_loopback=True, look_up=True)
    vet_url("http://127.0.0.1:80/", allow_loopback=True, look_up=True)
    vet_url("http://[::1]:80/", allow_loopback=True, look_up=True)
    for url in (f"http://{PUBLIC}/", "http://10.0.0.1/", f"https://{PUBLIC}:25/"):
        with pytest.raises(InvalidRequest):
            vet_url(url, allow_loopback=True, look_up=True)


def test_a_name_that_is_not_in_the_dns_now_may_be_there_later() -> None:
    url = "https://nobody.trunkline.invalid/?key=planted"
    vet_url(url, allow_loopback=False, look_up=True)
    with pytest.raises(NotReached, match="DNS") as caught:
        post(url, b"", {}, allow_loopback=False, timeout_seconds=5)
    assert "planted" not in str(caught.value)


# Names


def knows(*answers: str | tuple[str, ...]) -> Resolver:
    """A resolver that gives each question the next answer, of one address or several."""
    left = list(answers)

    def ask(_host: str) -> tuple[str, ...]:
        answer = left.pop(0)
        return (answer,) if isinstance(answer, str) else answer

    return ask


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "fd00:ec2::254"],
)
def test_a_name_that_leads_inside_is_refused(address: str) -> None:
    url = "https://inside.example/"
    with pytest.raises(InvalidRequest, match="private"):
        vet_url(url, allow_loopback=False, look_up=True, resolver=knows(address))
    with pytest.raises(InvalidRequest, match="private"):
        post(url, b"", {}, allow_loopback=False, resolver=knows(address))


@pytest.mark.parametrize("answer", [(PUBLIC, "::1"), ("10.0.0.1", PUBLIC)])
def test_one_private_address_among_public_ones_is_enough(answer: tuple[str, ...]) -> None:
    url = "https://both.example/"
    with pytest.raises(InvalidRequest, match="private"):
        vet_url(url, allow_loopback=False, look_up=True, resolver=knows(answer))
    with pytest.raises(InvalidRequest, match="private"):
        post(url, b"", {}, allow_loopback=False, resolver=knows(answer))


@pytest.mark.parametrize(
    "host",
    [
        "metadata.google.internal",
        "printer.local",
        "redis.prod.svc",
        "api.default.svc.cluster.local",
        "router.home.arpa",
        "wiki.corp",
        "a.localhost",
        "A.LOCALHOST",
        "hidden.onion",
    ],
)
def test_a_name_of_somebody_s_own_network_is_refused_whatever_it_leads_to(host: str) -> None:
    url = f"https://{host}/"
    with pytest.raises(InvalidRequest, match="public DNS"):
        vet_url(url, allow_loopback=False, look_up=False)
    with pytest.raises(InvalidRequest, match="public DNS"):
        post(url, b"", {}, allow_loopback=False, resolver=knows(PUBLIC))


def test_only_the_name_itself_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search list would make "pay.example" one of our own cluster's names."""
    asked: list[object] = []

    def getaddrinfo(host: object, *_: object, **__: object) -> list[object]:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "no")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    vet_url("https://pay.example/", allow_loopback=False, look_up=True)
    with pytest.raises(NotReached):
        post("https://pay.example/", b"", {}, allow_loopback=False)
    assert asked == ["pay.example.", "pay.example."]


def test_a_name_that_changes_its_mind_does_not_lead_inside(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
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
    resolver = knows(PUBLIC, LOOPBACK)

    with pytest.raises(NotReached, match="refused"):
        post(url, b"", {}, allow_loopback=False, timeout_seconds=0.5, resolver=resolver)

    assert connected == [(PUBLIC, receiver.port)]
    # The next delivery asks anew, and refuses what it is told then.
    with pytest.raises(InvalidRequest, match="private"):
        post(url, b"", {}, allow_loopback=False, timeout_seconds=0.5, resolver=resolver)
    assert len(connected) == 1
    assert receiver.received == []


def test_a_vetted_name_is_connected_to_as_it_was_vetted(receiver: Receiver) -> None:
    url = f"http://hook.example:{receiver.port}/a?b=c"
    assert send(url, resolver=knows(LOOPBACK)) == 200
    [got] = receiver.received
    assert (got.path, got.headers["host"]) == ("/a?b=c", f"hook.example:{receiver.port}")


def test_a_resolver_that_hangs_ends_with_the_deadline() -> None:
    gate = threading.Event()

    def hang(_host: str) -> list[str]:
        gate.wait(10)
        return []

    began = time.monotonic()
    with pytest.raises(NotReached, match="in time"):
        post(
            "https://slow.example/",
            b"",
            {},
            allow_loopback=False,
            timeout_seconds=0.2,
            resolver=hang,
        )
    assert time.monotonic() - began < 2
    gate.set()


def test_a_resolver_s_nonsense_is_no_address() -> None:
    with pytest.raises(NotReached, match="DNS"):
        send("http://odd.example/", resolver=knows("fe80::1%nowhere%"))


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


def test_a_compressed_body_is_not_unpacked() -> None:
    """A bomb stays what it weighs on the wire: nobody reads the body, so nobody unpacks it."""
    bomb = gzip.compress(bytes(50_000_000))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    with speaking(lambda connection: connection.sendall(head.encode() + bomb)) as url:
        tracemalloc.start()
        try:
            assert send(url) == 200
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < 5_000_000


def test_a_redirect_inside_is_handed_over_and_not_followed(receiver: Receiver) -> None:
    """Also by one that claims to be an answer's continuation, or a refresh."""
    inside = f"http://{LOOPBACK}:{receiver.port}/inside"
    for status in (301, 302, 303, 307, 308):
        headers = {"Location": inside, "Refresh": f"0; url={inside}", "Alt-Svc": 'h3=":443"'}
        receiver.script = lambda _, status=status, headers=headers: Told(  # type: ignore[misc]
            status=status, headers=headers
        )
        assert send(receiver.url) == status
    assert [one.path for one in receiver.received] == ["/hook"] * 5


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


def test_tls_names_the_host_and_not_its_address(tmp_path: Path) -> None:
    server_side, trust = certify(tmp_path, "hook.example")
    names: list[str | None] = []
    server_side.sni_callback = lambda _socket, name, _context: names.append(name)
    with receiving(server_side) as receiver:
        url = f"https://hook.example:{receiver.port}/"
        assert send(url, trust=trust, resolver=knows(LOOPBACK)) == 200
    assert names == ["hook.example"]


def test_a_server_without_tls_is_named(receiver: Receiver) -> None:
    with pytest.raises(NotReached, match="TLS handshake failed"):
        send(receiver.url.replace("http:", "https:"))
