"""What the owners of numbers do meanwhile: submit, ask again, cancel, retry, change, release.

Each import is one errand. Its requests are made as a careful client makes them: with an
Idempotency-Key, again and again until the API answers.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import httpx
import psycopg
from livekit.protocol.sip import DeleteSIPDispatchRuleRequest

from tests.chaos.accounts import Prepared
from tests.chaos.verdict import FINAL
from tests.rig import Rig

_JOBS: Final = "SELECT id, coalesce(import_id, id), kind, state FROM import_jobs"
_RULE: Final = (
    "SELECT objects->>'dispatch_rule' FROM job_steps WHERE step = 'create_dispatch_rule' "
    "AND job_id = '{}'"
)
_ASK_AGAIN_SECONDS: Final = 0.4
_LOOK_AGAIN_SECONDS: Final = 0.5
#: The service is away, or the vendor whom it asks.
_COME_AGAIN: Final = frozenset({429, 502, 503, 504})
#: An API that answers nothing for this long is not restarting any more.
_PATIENCE_SECONDS: Final = 90.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """A job as the table has it now."""

    id: str
    import_id: str
    kind: str
    state: str


class Board:
    """All jobs and their states, read once for everybody."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._rows: dict[str, Row] = {}
        self._reads = 0

    async def fresh(self) -> None:
        """Waits until the table has been read anew, from the beginning on."""
        seen = self._reads
        while self._reads < seen + 2:  # noqa: ASYNC110 -- read by a thread
            await asyncio.sleep(_LOOK_AGAIN_SECONDS / 2)

    async def watch(self) -> None:
        """Reads the table again and again, until it is cancelled."""
        while True:
            await asyncio.to_thread(self.read)
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    def read(self) -> None:
        """Reads the table; keeps what it knows if the database is away."""
        try:
            found = self._rig.sql(_JOBS)
        except psycopg.OperationalError:
            return
        self._rows = {
            f"imp_{job.hex}": Row(
                id=f"imp_{job.hex}", import_id=f"imp_{owner.hex}", kind=kind, state=state
            )
            for job, owner, kind, state in found
        }
        self._reads += 1

    def open(self) -> list[Row]:
        """Returns the jobs that are not final."""
        return [row for row in self._rows.values() if row.state not in FINAL]

    def in_state(self, state: str) -> list[Row]:
        """Returns the jobs in a state."""
        return [row for row in self._rows.values() if row.state == state]

    def state(self, job_id: str) -> str:
        """Returns a job's state; "" while it has not been seen."""
        row = self._rows.get(job_id)
        return "" if row is None else row.state

    def job_of(self, import_id: str, kind: str) -> Row | None:
        """Returns the newest job of a kind on an import's number."""
        found = [
            row for row in self._rows.values() if (row.import_id, row.kind) == (import_id, kind)
        ]
        return max(found, key=lambda row: row.id, default=None)


@dataclass(kw_only=True)
class Errand:
    """An import on its way, and what was seen of it."""

    prepared: Prepared
    ids: set[str] = field(default_factory=set)
    #: What the API said no to, by code.
    refused: Counter[str] = field(default_factory=Counter)
    #: The fault that makes its vendor refuse, while it is there.
    refusal_id: str | None = None
    #: Names of the agents that may answer its number; empty for any.
    agents: set[str] = field(default_factory=lambda: {"day"})
    retried: bool = False

    @property
    def import_id(self) -> str:
        """Its import; all answers named the same, or the verdict will tell."""
        return min(self.ids, default="")


class Errands:
    """Everybody's errands, on one event loop."""

    def __init__(
        self, rig: Rig, prepared: Sequence[Prepared], *, night: str, spool: Callable[[str], None]
    ) -> None:
        self._rig = rig
        self._night = night
        self._spool = spool
        self._begun = time.monotonic()
        self.board = Board(rig)
        self.all = [Errand(prepared=one) for one in prepared]
        self.requests = 0
        #: Requests that had no answer, or one that the service is away.
        self.unanswered = 0

    async def run(self, errands: Sequence[Errand]) -> None:
        """Runs errands by their plan, until each has come to its end."""
        self._begun = time.monotonic()
        async with self._client() as client:
            watching = asyncio.create_task(self.board.watch())
            try:
                async with asyncio.TaskGroup() as group:
                    for errand in errands:
                        group.create_task(self._one(client, errand))
            finally:
                watching.cancel()

    async def retry(self, import_ids: Sequence[str]) -> None:
        """Retries jobs, as an operator does; does not wait for their end."""
        async with self._client() as client:
            for import_id in import_ids:
                await self._ask(client, "POST", f"/v1/imports/{import_id}/retry")

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._rig.stack.api_url,
            headers={"Authorization": self._rig.api.headers["Authorization"]},
            timeout=15,
            trust_env=False,
            limits=httpx.Limits(max_connections=24),
        )

    async def _one(self, client: httpx.AsyncClient, errand: Errand) -> None:
        planned = errand.prepared.planned
        await asyncio.sleep(max(0.0, self._begun + planned.at - time.monotonic()))
        if (refusal := errand.prepared.refusal) is not None and errand.refusal_id is None:
            found = await asyncio.to_thread(self._rig.control, "faults", refusal)
            errand.refusal_id = found["faults"][0]["id"]
        sending = [self._submit(client, errand) for _ in range(2 if planned.twice else 1)]
        await asyncio.gather(*sending)
        if not errand.ids:
            return
        import_id = errand.import_id
        if planned.cancel_after is not None:
            await asyncio.sleep(planned.cancel_after)
            await self._act(client, errand, "POST", f"/v1/imports/{import_id}/cancel")
        state = await self._final(import_id)
        if planned.twice:
            await self._submit(client, errand)
        if state in {"failed", "cancelled"} and planned.retry_after is not None:
            await asyncio.sleep(planned.retry_after)
            await self._lift(errand)
            errand.retried = True
            await self._act(client, errand, "POST", f"/v1/imports/{import_id}/retry")
            await self.board.fresh()
            state = await self._final(import_id)
        job = await self._ask(client, "GET", f"/v1/imports/{import_id}")
        number_id = job.json()["phone_number_id"]
        for step, wait in planned.then if state == "active" else ():
            await asyncio.sleep(wait)
            await self._change(client, errand, step, f"/v1/phone-numbers/{number_id}")

    async def _submit(self, client: httpx.AsyncClient, errand: Errand) -> None:
        headers = {"Idempotency-Key": errand.prepared.key}
        answer = await self._ask(
            client, "POST", "/v1/imports", json=dict(errand.prepared.body), headers=headers
        )
        if answer.is_success:
            errand.ids.add(answer.json()["id"])
        else:
            errand.refused[answer.json()["code"]] += 1

    async def _change(
        self, client: httpx.AsyncClient, errand: Errand, kind: str, path: str
    ) -> None:
        before = self.board.job_of(errand.import_id, kind)
        match kind:
            case "rebind":
                errand.agents.add("night")
                change = {"agent_id": self._night, "inbound": {"room_pattern": "night-"}}
                await self._act(client, errand, "PATCH", path, json=change)
            case "repair":
                await self._damage(errand)
                await self._act(client, errand, "POST", f"{path}/check", params={"repair": "true"})
            case _:
                await self._act(client, errand, "DELETE", path)
        # The answer that named the job may have been lost; the table knows it.
        await self.board.fresh()
        job = self.board.job_of(errand.import_id, kind)
        if job is not None and job != before:
            state = await self._final(job.id)
            if kind == "rebind" and state == "active":
                errand.agents.discard("day")

    async def _damage(self, errand: Errand) -> None:
        """Deletes the dispatch rule, so that a repair has something to do."""
        job = UUID(hex=errand.import_id.removeprefix("imp_"))
        for _ in range(5):
            try:
                ((rule,),) = await asyncio.to_thread(self._rig.sql, _RULE.format(job))
                request = DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id=rule)
                await asyncio.to_thread(self._rig.livekit, "DeleteSIPDispatchRule", request)
            except (AssertionError, ValueError, httpx.HTTPError, psycopg.OperationalError):
                # LiveKit is as unreliable for others as for us.
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
            else:
                return

    async def _lift(self, errand: Errand) -> None:
        """Takes away what made the vendor refuse."""
        if errand.refusal_id is not None:
            fault = {"id": errand.refusal_id}
            await asyncio.to_thread(self._rig.sandbox.delete, "/_sandbox/faults", params=fault)
            errand.refusal_id = None

    async def _final(self, job_id: str) -> str:
        while (state := self.board.state(job_id)) not in FINAL:  # noqa: ASYNC110 -- as above
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        return state

    async def _act(
        self, client: httpx.AsyncClient, errand: Errand, method: str, path: str, **more: Any
    ) -> None:
        answer = await self._ask(client, method, path, **more)
        if answer.is_error:
            errand.refused[answer.json()["code"]] += 1

    async def _ask(
        self, client: httpx.AsyncClient, method: str, path: str, **more: Any
    ) -> httpx.Response:
        """Asks until there is an answer that does not ask to come again."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        answer = None
        while True:
            self.requests += 1
            try:
                answer = await client.request(method, path, **more)
            except httpx.TransportError:
                pass
            else:
                self._spool(_whole(answer))
                if answer.status_code not in _COME_AGAIN:
                    return answer
            self.unanswered += 1
            if time.monotonic() > deadline:
                if answer is not None:
                    return answer
                msg = f"{method} {path} was not answered for {_PATIENCE_SECONDS:.0f} s"
                raise AssertionError(msg)
            await asyncio.sleep(_ASK_AGAIN_SECONDS)


def _whole(answer: httpx.Response) -> str:
    headers: Mapping[str, str] = dict(answer.headers)
    return f"{answer.text}\n{json.dumps(headers)}"
