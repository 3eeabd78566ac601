"""What every call keeps to: its time, its lease, its header, its silence about secrets."""

from __future__ import annotations

import logging
import socket
import socketserver
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.testing import capture_logs

from tests.contract.livekit.conftest import (
    IMPORT,
    NAMES,
    NUMBER,
    PASSWORD,
    SECRET,
    TAG,
    Connect,
    Sandbox,
    inbound,
    make_attempt,
    make_settings,
    outbound,
    rule,
)
from worker import livekit
from worker.domain.errors import (
    LeaseLost,
    LiveKitMisconfigured,
    LiveKitUnavailable,
    SipTrunkProvisionFailed,
    TrunklineError,
)
from worker.domain.values import E164, ImportTag
from worker.livekit import LiveKit
from worker.livekit import client as livekit_client

QUICK = {"connect_timeout_seconds": 0.4, "read_timeout_seconds": 0.4}
CREATE = "create_sip_outbound_trunk"
LIST = "list_sip_outbound_trunk"


def create(lk: LiveKit) -> TrunklineError | None:
    try:
        lk.ensure_outbound_trunk(outbound())
    except TrunklineError as error:
        return error
    return None


@contextmanager
def server(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Sends these very bytes to everybody; gives its URL and the requests."""
    seen: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            seen.append(self.request.recv(65536))
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}", seen
        listening.shutdown()


def raw(head: str, body: str = "") -> bytes:
    headers = f"Connection: close\r\nContent-Length: {len(body)}"
    return f"HTTP/1.1 {head}\r\n{headers}\r\n\r\n{body}".encode()


def test_slow_read_ends_in_time(sandbox: Sandbox, connect: Connect) -> None:
    sandbox.fault("list_sip_inbound_trunk", "delay", seconds=3, times=None)
    started = time.monotonic()
    with pytest.raises(LiveKitUnavailable) as caught:
        connect(**QUICK).verify()
    assert 0.35 < time.monotonic() - started < 1.2
    assert not caught.value.outcome_unknown


def test_slow_write_ends_in_time_with_an_unknown_outcome(
    sandbox: Sandbox, connect: Connect
) -> None:
    sandbox.fault(CREATE, "delay", seconds=1)
    started = time.monotonic()
    error = create(connect(**QUICK))
    assert isinstance(error, LiveKitUnavailable)
    assert error.outcome_unknown
    assert time.monotonic() - started < 1.2
    assert len(sandbox.journal(CREATE)) == 1


def test_refused_connection_leaves_no_doubt(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    lk = connect(LIVEKIT_URL=f"http://127.0.0.1:{port}")
    with pytest.raises(LiveKitUnavailable) as caught:
        lk.remove_outbound_trunk(NAMES.outbound, NUMBER, "ST_1")
    assert not caught.value.outcome_unknown


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not drop at a full backlog")
def test_connection_that_never_comes_ends_in_time_and_leaves_no_doubt() -> None:
    # An accept queue that is full drops what arrives: the connect neither fails nor succeeds.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.settimeout(0)
            filler.connect_ex(address)
        settings = make_settings(f"http://127.0.0.1:{address[1]}", **QUICK)
        lk = LiveKit(settings, make_attempt(), TAG)
        started = time.monotonic()
        with pytest.raises(LiveKitUnavailable) as caught:
            lk.client.wait_for(lk._requests.delete_trunk("ST_1"))
        for filler in fillers:
            filler.close()
    assert 0.35 < time.monotonic() - started < 1.2
    assert not caught.value.outcome_unknown


def test_read_is_tried_again_after_a_short_fault(sandbox: Sandbox, connect: Connect) -> None:
    sandbox.fault(LIST, "status", status=503)
    sandbox.fault(LIST, "cut")
    assert create(connect()) is None
    assert len(sandbox.journal(LIST)) == 3


@pytest.mark.parametrize(
    ("fault", "tries"),
    [
        ({"action": "status", "status": 503}, 3),
        ({"action": "cut"}, 3),
        ({"action": "garbage"}, 3),
        ({"action": "empty"}, 3),
        ({"action": "status", "status": 502, "body": "<html>bad gateway</html>"}, 3),
        ({"action": "status", "status": 429}, 1),
        ({"action": "status", "status": 503, "retry_after": 7}, 1),
    ],
)
def test_listing_that_fails_is_not_an_empty_one(
    sandbox: Sandbox, connect: Connect, fault: dict[str, object], tries: int
) -> None:
    sandbox.fault(LIST, times=None, **fault)  # type: ignore[arg-type]
    error = create(connect())
    assert isinstance(error, LiveKitUnavailable)
    assert not error.outcome_unknown
    assert error.retry_after == fault.get("retry_after")
    assert len(sandbox.journal(LIST)) == tries
    assert sandbox.writes() == []


@pytest.mark.parametrize("action", ["cut", "garbage", "empty"])
def test_write_without_an_answer_is_sent_once(
    sandbox: Sandbox, connect: Connect, action: str
) -> None:
    sandbox.fault(CREATE, action, times=None)
    error = create(connect())
    assert isinstance(error, LiveKitUnavailable)
    assert error.outcome_unknown
    assert len(sandbox.journal(CREATE)) == 1


def test_limited_write_was_certainly_not_done(sandbox: Sandbox, connect: Connect) -> None:
    sandbox.fault(CREATE, "status", status=429, retry_after=3)
    error = create(connect())
    assert isinstance(error, LiveKitUnavailable)
    assert (error.retry_after, error.outcome_unknown) == (3, False)


def test_refused_values_have_a_name(connect: Connect) -> None:
    with pytest.raises(SipTrunkProvisionFailed):
        connect().ensure_outbound_trunk(outbound(address="sip:carrier.example"))


@pytest.mark.parametrize(
    "changes",
    [
        {"LIVEKIT_API_SECRET": "another-secret-of-at-least-32-characters"},
        {"LIVEKIT_API_KEY": "APIunknown"},
        {"LIVEKIT_API_KEY": ""},
        {"LIVEKIT_URL": "http://[nonsense"},
        {"LIVEKIT_URL": "ftp://127.0.0.1"},
    ],
)
def test_wrong_settings_have_a_name(connect: Connect, changes: dict[str, object]) -> None:
    with pytest.raises(LiveKitMisconfigured):
        connect(**changes).verify()


def test_wrong_path_is_a_wrong_setting(sandbox: Sandbox, connect: Connect) -> None:
    with pytest.raises(LiveKitMisconfigured):
        connect(LIVEKIT_URL=f"{sandbox.url}/livekit/deeper").verify()


def test_server_without_sip_is_a_wrong_setting(sandbox: Sandbox, connect: Connect) -> None:
    sandbox.fault(LIST, "status", status=500, message="sip not connected (redis required)", times=9)
    assert isinstance(create(connect()), LiveKitMisconfigured)


def test_redirection_is_not_followed() -> None:
    with server(raw("200 OK")) as (elsewhere, seen):
        moved = raw(f"307 Temporary Redirect\r\nLocation: {elsewhere}/")
        with server(moved) as (url, _), pytest.raises(LiveKitMisconfigured):
            LiveKit(make_settings(url), make_attempt(), TAG).verify()
    assert seen == []


def test_error_body_that_is_no_object_is_an_outage() -> None:
    answer = raw("502 Bad Gateway\r\nContent-Type: application/json", "[]")
    with server(answer) as (url, _), pytest.raises(LiveKitUnavailable):
        LiveKit(make_settings(url), make_attempt(), TAG).verify()


def test_created_object_without_an_id_is_an_unknown_outcome() -> None:
    with server(raw("200 OK\r\nContent-Type: application/protobuf")) as (url, seen):
        error = create(LiveKit(make_settings(url), make_attempt(), TAG))
    assert isinstance(error, LiveKitUnavailable)
    assert error.outcome_unknown
    assert len(seen) == 2


def test_without_a_lease_nothing_is_sent(sandbox: Sandbox, connect: Connect) -> None:
    lk = connect(make_attempt(lease_seconds=1))
    for act in (
        lk.verify,
        lambda: lk.ensure_trunks(inbound(), outbound()),
        lambda: lk.ensure_dispatch_rule(rule("ST_1")),
        lambda: lk.remove_inbound_trunk(NAMES.inbound, NUMBER, "ST_1"),
    ):
        with pytest.raises(LeaseLost):
            act()
    assert sandbox.journal() == []


def test_lease_that_ends_on_the_way_stops_the_write(sandbox: Sandbox, connect: Connect) -> None:
    sandbox.fault(LIST, "delay", seconds=0.3)
    lk = connect(make_attempt(lease_seconds=1), **QUICK)
    assert isinstance(create(lk), LeaseLost)
    assert sandbox.writes() == []


def test_halves_run_side_by_side(sandbox: Sandbox, connect: Connect) -> None:
    for kind in ("inbound", "outbound"):
        sandbox.fault(f"create_sip_{kind}_trunk", "delay", seconds=0.5)
    started = time.monotonic()
    connect().ensure_trunks(inbound(), outbound())
    assert time.monotonic() - started < 0.9


def test_failure_of_one_half_waits_for_the_other(sandbox: Sandbox, connect: Connect) -> None:
    sandbox.fault("list_sip_inbound_trunk", "status", status=401)
    sandbox.fault(CREATE, "delay", seconds=0.3)
    with pytest.raises(LiveKitMisconfigured):
        connect().ensure_trunks(inbound(), outbound())
    assert len(sandbox.outbound) == 1


def test_write_that_may_still_land_outweighs_a_refusal(sandbox: Sandbox, connect: Connect) -> None:
    sandbox.seed(inbound_trunks=[{"name": "x", "numbers": [NUMBER]}])
    sandbox.fault(CREATE, "lost")
    with pytest.raises(LiveKitUnavailable) as caught:
        connect().ensure_trunks(inbound(), outbound())
    assert caught.value.outcome_unknown


def test_requests_of_many_threads_keep_their_own_header(sandbox: Sandbox, connect: Connect) -> None:
    def work(n: int) -> None:
        import_id, number = f"imp_{n:04}", E164(f"+1415555{n:04}")
        names = livekit.names(ImportTag(import_id=import_id))
        lk = connect(make_attempt(import_id, number=n + 1))
        trunk_id, _ = lk.ensure_trunks(
            inbound(name=names.inbound, number=number), outbound(name=names.outbound, number=number)
        )
        assert trunk_id
        rule_id = lk.ensure_dispatch_rule(rule(trunk_id, name=names.rule, number=number))
        lk.remove_dispatch_rule(names.rule, number, rule_id)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(64)))
    entries = sandbox.journal()
    for entry in entries:
        assert entry["attempt"] == int(entry["import_id"].removeprefix("imp_")) + 1
        made = entry["body"].get("trunk") or entry["body"].get("dispatch_rule")
        assert not made or made["name"].split(":")[1] == entry["import_id"]
    assert Counter(entry["operation"] for entry in entries if entry["write"]) == {
        "livekit.create_sip_inbound_trunk": 64,
        "livekit.create_sip_outbound_trunk": 64,
        "livekit.create_sip_dispatch_rule": 64,
        "livekit.delete_sip_dispatch_rule": 64,
    }


def test_secrets_appear_in_no_log_and_no_error(
    sandbox: Sandbox, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = f'cannot use "{PASSWORD}" or {PASSWORD} for {NUMBER}, 1 (415) 555-0100 with {SECRET}'
    sandbox.fault("create_sip_*_trunk", "status", status=400, message=said, times=2)
    with capture_logs() as logs, pytest.raises(SipTrunkProvisionFailed) as caught:
        connect().ensure_trunks(inbound(), outbound())
    connect().ensure_trunks(inbound(), outbound())
    [entry, _] = [each for each in logs if each["event"] == "livekit call failed"]
    assert entry["said"] == "invalid_argument: cannot use … or … for …, … with …"
    assert entry["attempt"] == f"{IMPORT}/provision_trunks/1"
    assert caught.value.__context__ is None
    everything = repr((logs, caplog.text, caught.value, inbound().login))
    for secret in (PASSWORD, SECRET, "4155550100", "555-0100"):
        assert secret not in everything


def test_log_of_the_loop_carries_what_the_waiting_thread_bound(
    sandbox: Sandbox, connect: Connect
) -> None:
    sandbox.fault(LIST, "status", status=429)
    with capture_logs([merge_contextvars]) as logs, bound_contextvars(job_id="job_1"):
        create(connect())
    assert [entry["job_id"] for entry in logs] == ["job_1"]


def test_waiting_thread_gives_up_on_a_stuck_loop(sandbox: Sandbox, connect: Connect) -> None:
    lk = connect(**QUICK)
    lk.verify()
    stuck = threading.Event()
    livekit_client.PROCESS.loop().loop.call_soon_threadsafe(stuck.wait, 10)
    with pytest.raises(LiveKitUnavailable) as caught:
        lk.ensure_outbound_trunk(outbound())
    stuck.set()
    assert caught.value.outcome_unknown
    connect().verify()
    assert sandbox.writes() == []


def test_closing_ends_what_is_under_way_and_the_next_call_starts_afresh(
    sandbox: Sandbox, connect: Connect
) -> None:
    sandbox.fault(CREATE, "hold", when="before")
    with ThreadPoolExecutor() as pool:
        under_way = pool.submit(create, connect())
        sandbox.held()
        livekit_client.close()
        error = under_way.result()
    assert isinstance(error, LiveKitUnavailable)
    assert error.outcome_unknown
    livekit_client.close()
    connect().verify()


SCRIPT = """
    import multiprocessing
    import sys
    from tests.contract.livekit.conftest import TAG, make_attempt, make_settings
    from worker.livekit import LiveKit

    def verify():
        LiveKit(make_settings(sys.argv[1]), make_attempt(), TAG).verify()

    verify()
    if "fork" in sys.argv:
        children = [multiprocessing.get_context("fork").Process(target=verify) for _ in range(3)]
        for child in children:
            child.start()
        verify()
        for child in children:
            child.join(10)
            assert child.exitcode == 0, child.exitcode
    verify()
"""


@pytest.mark.parametrize("mode", ["alone", "fork"])
def test_process_and_its_forks_work_and_end_quietly(sandbox: Sandbox, mode: str) -> None:
    # Python 3.12 warns of every fork beside a thread.
    strict = ("-W", "error", "-W", "ignore::DeprecationWarning")
    done = subprocess.run(  # noqa: S603 -- our own interpreter
        [sys.executable, *strict, "-c", textwrap.dedent(SCRIPT), f"{sandbox.url}/livekit", mode],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert len(sandbox.journal()) == (6 if mode == "fork" else 2)
