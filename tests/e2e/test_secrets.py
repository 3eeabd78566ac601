"""Planted secrets are looked for everywhere but in the vault: there must be none."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from tests.rig import FOREIGN_URL, TOKEN, Rig, eventually, running

#: Everything that a caller gives us in confidence.
SIP_PASSWORD = "planted-sip-password"
PIN = "8675309"
PLANTED = (TOKEN, "sandbox-planted-query", SIP_PASSWORD, PIN)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running() as rig:
        yield rig


class _Listener:
    """Keeps every command that any client sends to Redis, as Redis itself saw it."""

    def __init__(self, url: str) -> None:
        self.seen: list[str] = []
        self._client = redis.Redis.from_url(url)
        self._monitor = self._client.monitor().__enter__()  # type: ignore[no-untyped-call]
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            for command in self._monitor.listen():
                self.seen.append(json.dumps(command, default=str))
        except (redis.RedisError, OSError, ValueError):
            return

    def text(self) -> str:
        return "\n".join(self.seen)


def _where(text: str, places: list[str], place: str) -> None:
    places += [f"{secret} in {place}" for secret in PLANTED if secret in text]


@pytest.mark.timeout(120)
def test_no_secret_is_found_outside_the_vault(rig: Rig) -> None:
    listener = _Listener(rig.stack.redis.url)
    answers = []
    rig.api.event_hooks["response"].append(lambda r: answers.append((r.read(), r.headers)))
    sip = {
        "address": "sip.example.com",
        "username": "planted-user",
        "password": SIP_PASSWORD,
    }
    good = rig.customer(sip=sip, inbound={"pin": PIN})
    kept = rig.customer(sip=sip, inbound={"pin": PIN}, replace_existing_routing=False)
    trunk = rig.customer(mode="sip_trunk", inbound={"pin": PIN})
    wrong = {**good.request, "credentials": {"account_sid": good.sid, "auth_token": TOKEN + "x"}}
    ids = [rig.submit(customer)["id"] for customer in (good, kept, trunk)]
    rig.fault(
        import_id=ids[2], step="route_number", write=True, action="status", status=400, times=None
    )
    rig.wait(ids)
    assert rig.job(ids[0])["status"] == "active"
    # Mistakes with secrets in them: refused at once, or failed at the provider.
    rig.api.post("/v1/imports", json={**wrong, "sip": {**sip, "address": "sip:" + SIP_PASSWORD}})
    rig.api.post("/v1/imports", json={**good.request, "credentials": {"token": TOKEN}})
    rig.api.post("/v1/imports", content=json.dumps(good.request)[:-5])
    rig.api.post("/v1/credentials", json={"provider": "twilio", "credentials": {"x": TOKEN}})
    stored = rig.api.post(
        "/v1/credentials",
        json={"provider": "twilio", "credentials": good.request["credentials"], "label": "main"},
    )
    rig.api.get(f"/v1/credentials/{stored.json()['id']}")
    for path in ("imports", "phone-numbers", "credentials"):
        rig.api.get(f"/v1/{path}")

    places: list[str] = []
    _where(listener.text(), places, "redis commands")
    assert ids[0] in listener.text(), "the listener heard the messages"
    client = redis.Redis.from_url(rig.stack.redis.url)
    for key in client.scan_iter():
        _where(str(client.dump(key)), places, f"redis key {key!r}")
    for body, headers in answers:
        _where(body.decode() + str(headers), places, "an API answer")
    for log in Path(rig.stack.logs_dir).glob("*.log"):
        _where(log.read_text(errors="replace"), places, log.name)
    for table, column in rig.sql(
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND column_name <> 'sealed'"
    ):
        for (value,) in rig.sql(f'SELECT "{column}"::text FROM "{table}"'):  # noqa: S608 -- catalogue
            _where(str(value), places, f"{table}.{column}")
    with httpx.Client(
        base_url=rig.stack.flower_url,
        auth=(rig.stack.flower_user, rig.stack.flower_password),
        trust_env=False,
    ) as flower:
        eventually(lambda: ids[0] in flower.get("/api/tasks").text)
        for path in ("/api/tasks?limit=500", "/api/workers?refresh=1", "/tasks", "/workers", "/"):
            _where(flower.get(path).text, places, f"Flower {path}")
        for task_id in flower.get("/api/tasks?limit=500").json():
            _where(flower.get(f"/api/task/info/{task_id}").text, places, "Flower task info")
            _where(flower.get(f"/task/{task_id}").text, places, "Flower task page")
    assert places == []
    # The search itself can find: the vault's own plain text and the seeded URL hold them.
    found: list[str] = []
    _where(json.dumps(good.request) + FOREIGN_URL, found, "the request")
    assert len(found) == len(PLANTED)


def test_flower_asks_for_a_password(rig: Rig) -> None:
    for path in ("/", "/tasks", "/api/tasks", "/workers"):
        assert httpx.get(rig.stack.flower_url + path, trust_env=False).status_code == 401
