"""An import calls its own voice URL first: a live number is never sent where nobody answers."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from deploy.local.waiting import LOOPBACK, free_port
from tests.rig import FAST, Rig, running
from tests.vendors import VENDORS, order_of

#: Eight attempts in about a second.
QUICK = {**FAST, "TRUNKLINE_RETRY_SCALE": "0.01"}


class _Stranger(BaseHTTPRequestHandler):
    """Somebody else's server, which answers every request with a success."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def stranger() -> Iterator[str]:
    with ThreadingHTTPServer((LOOPBACK, 0), _Stranger) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _state(rig: Rig) -> tuple[Any, Any]:
    found = rig.sandbox.get("/_sandbox/state").json()
    accounts = {vendor.name: found[vendor.name]["accounts"] for vendor in VENDORS}
    kinds = ("inbound_trunks", "outbound_trunks", "dispatch_rules")
    return accounts, {kind: found["livekit"][kind] for kind in kinds}


def _refuses_every_vendor(rig: Rig, why: str) -> None:
    orders = [order_of(rig, vendor, "webhook") for vendor in VENDORS]
    before = _state(rig)
    ids = [rig.api.post("/v1/imports", json=order.body).json()["id"] for order in orders]
    jobs = rig.wait(ids)
    for job in jobs.values():
        assert (job["status"], job["error"]["code"]) == ("failed", "callbacks_unreachable"), job
        assert job["error"]["step"] == "route_number"
        assert why in job["error"]["message"]
        assert "TRUNKLINE_PUBLIC_BASE_URL" in job["error"]["message"]
    assert _state(rig) == before
    for import_id in ids:
        moved = [
            entry
            for entry in rig.journal(import_id)
            if entry["write"] and entry.get("step") == "route_number"
        ]
        assert not moved, "the number's voice was touched"


def test_where_nobody_listens() -> None:
    env = {**QUICK, "TRUNKLINE_SELF_TEST_BASE_URL": f"http://{LOOPBACK}:{free_port()}"}
    with running(without={"flower"}, env=env) as rig:
        _refuses_every_vendor(rig, "the connection is refused")


def test_where_somebody_else_answers(stranger: str) -> None:
    env = {**QUICK, "TRUNKLINE_SELF_TEST_BASE_URL": stranger}
    with running(without={"flower"}, env=env) as rig:
        _refuses_every_vendor(rig, "something else answers there, with status 200")


def test_where_the_public_name_leads_nowhere() -> None:
    # Reserved never to exist: https://www.rfc-editor.org/rfc/rfc2606
    nowhere = "https://voice.trunkline.invalid"
    env = {
        **QUICK,
        "TRUNKLINE_PUBLIC_BASE_URL": nowhere,
        "TRUNKLINE_SELF_TEST_BASE_URL": nowhere,
    }
    with running(without={"flower"}, env=env) as rig:
        _refuses_every_vendor(rig, "its host cannot be found or reached")


def test_a_number_that_no_webhook_answers_needs_no_self_test(stranger: str) -> None:
    env = {**QUICK, "TRUNKLINE_SELF_TEST_BASE_URL": stranger}
    with running(without={"flower"}, env=env) as rig:
        orders = [order_of(rig, vendor, "sip_trunk") for vendor in VENDORS]
        ids = [rig.api.post("/v1/imports", json=order.body).json()["id"] for order in orders]
        jobs = rig.wait(ids)
        assert {job["status"] for job in jobs.values()} == {"active"}, jobs
