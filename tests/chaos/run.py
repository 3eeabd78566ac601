"""One run from the first account to the verdict."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.local.service import worker_answers, worker_node
from tests.chaos import history
from tests.chaos.accounts import MARKER, Prepared, prepare
from tests.chaos.errands import Errand, Errands
from tests.chaos.places import Places, RedisListener, Spool, secrets_of
from tests.chaos.plan import Plan
from tests.chaos.search import Search
from tests.chaos.trouble import Done, Trouble
from tests.chaos.verdict import Evidence, Import, Job, Number, Verdict, active_imports, judge
from tests.receiver import receiving
from tests.rig import Rig, running

_JOBS: Final = (
    "SELECT id, kind, state, coalesce(import_id, id), e164, error_code, error_message, "
    "undo_error_step FROM import_jobs"
)
_NUMBERS: Final = "SELECT e164, import_id, status FROM phone_numbers"
_KEYS: Final = "SELECT idempotency_key FROM import_jobs WHERE idempotency_key IS NOT NULL"
_ATTEMPTS: Final = (
    "SELECT sum(attempts), sum(undo_attempts), max(attempts), max(undo_attempts) FROM job_steps"
)
#: Lines of the log that tell of a bug, whatever came of it.
BUGS: Final = ("step raised what it must not",)
#: How many times its planned length the trouble may last until all of it was done.
_LONGEST: Final = 6.0
#: A worker that has not answered for this long after the trouble is not coming back.
_ANSWER_SECONDS: Final = 20.0


@dataclass(frozen=True, kw_only=True)
class Past:
    """What was done to the stack, and how it came out of it."""

    #: For how long things were hurt.
    seconds: float
    done: list[Done]
    calls: int
    calls_hurt: int
    calls_by_fault: Counter[str]
    #: Seconds from the end of the trouble until every job was final, and after the retries.
    settled_seconds: float
    settled_again_seconds: float
    #: What was still open when the time was up.
    open_at_end: list[str]
    #: Jobs that were stuck once the trouble was over; an operator retried them.
    stuck: list[str]
    #: Imports that failed in the trouble and were retried after it.
    retried: list[str]
    #: Workers that lived and did not answer.
    silent_workers: list[str]


@dataclass(frozen=True, kw_only=True)
class Found:
    """Everything that a run showed."""

    plan: Plan
    past: Past
    verdict: Verdict
    evidence: Evidence
    errands: Errands
    #: Of all steps and all undos, and the most of one step and of one undo.
    attempts: Sequence[int]
    restarts: Counter[str]
    claims: list[history.Change]
    kills: list[history.Kill]
    double_claims: list[history.Change]
    #: Imports that failed in the trouble, were retried after it and did not become active.
    not_healed: list[str]
    secrets: list[str]
    #: Places in which the search did not find the secret that was planted for it.
    blind: list[str]
    rings: int
    not_ringing: list[str]
    notified: int
    bugs: Counter[str]

    @property
    def too_small(self) -> list[str]:
        """Whether enough happened to prove anything."""
        size = self.plan.size
        made = Counter(job.kind for job in self.evidence.jobs)
        hurt = self.past.calls_hurt
        few = [] if hurt >= size.least_hurt else [f"only {hurt} calls hurt, not {size.least_hurt}"]
        return few + [
            f"only {made[kind]} jobs of the kind {kind}, not {least}"
            for kind, least in (("import", size.least_imports), ("release", size.least_releases))
            if made[kind] < least
        ]

    @property
    def wrong(self) -> dict[str, list[str]]:
        """Everything for which a run fails, by name."""
        return {
            **vars(self.verdict),
            "still open": self.past.open_at_end,
            "secrets": self.secrets,
            "searched in vain": self.blind,
            "not ringing": self.not_ringing,
            "claimed twice at once": [
                f"{claim.job.hex} by {claim.who}" for claim in self.double_claims
            ],
            "never taken over": [
                f"{job.hex} of {kill.worker}" for kill in self.kills for job in kill.lost
            ],
            "not healed": self.not_healed,
            "bugs in the log": [f"{line}: {times}" for line, times in sorted(self.bugs.items())],
            "too small": self.too_small,
        }


def run(plan: Plan, *, say: Callable[[str], None], keep: Path | None = None) -> Found:
    """Runs a plan on a stack of its own; keeps the logs in a directory if anything is wrong."""
    size = plan.size
    with (
        running(
            env=size.settings,
            workers=size.workers,
            worker_concurrency=size.threads,
            supervise=True,
        ) as rig,
        receiving() as receiver,
    ):
        try:
            found = _run(rig, plan, receiver.url, lambda: len(receiver.received), say)
        except BaseException:
            _keep(rig, keep)
            raise
        if any(found.wrong.values()):
            _keep(rig, keep)
        return found


def _run(
    rig: Rig,
    plan: Plan,
    callback_url: str,
    notified: Callable[[], int],
    say: Callable[[str], None],
) -> Found:
    rig.sql(history.TRIGGER)
    agents = {name: rig.agent(name) for name in ("day", "night")}
    prepared, seeds = prepare(plan, agents, callback_url)
    rig.control("seed", seeds)
    before = rig.state()
    with _spools() as (answers, commands):
        listener = RedisListener(rig.stack.redis.url, commands)
        errands = Errands(rig, prepared, night=agents["night"], spool=answers.add)
        quiet = errands.all[: len(plan.quiet)]
        say(f"{len(quiet)} imports, undisturbed")
        asyncio.run(errands.run(quiet))
        models = _models(rig, quiet)
        past = _disturb(rig, plan, errands, say)
        say("judging")
        evidence = _evidence(rig, errands, before, models)
        rings, not_ringing = _ring(rig, errands, active_imports(evidence), plan)
        changes = history.read(rig.sql(history.READ))
        bugs = _bugs(rig)
        (attempts,) = rig.sql(_ATTEMPTS)
        listener.stop()
        places = Places(rig, answers, commands)
        places.plant()
        say("looking for secrets")
        search = Search(MARKER, secrets_of(rig, {plan.pin: "a PIN"}))
        secrets, blind = places.find(search)
    killed = [
        hit
        for one in past.done
        if one.kind in {"worker killed", "all workers killed"}
        for hit in one.hits
    ]
    states = {job.id: job.state for job in evidence.jobs}
    return Found(
        plan=plan,
        past=past,
        verdict=judge(evidence),
        evidence=evidence,
        errands=errands,
        attempts=attempts,
        restarts=Counter(restart.name for restart in rig.stack.restarts),
        kills=history.kills_of(changes, killed),
        claims=changes,
        double_claims=history.double_claims(changes),
        not_healed=[f"{one} is {states[one]}" for one in past.retried if states[one] != "active"],
        secrets=secrets,
        blind=blind,
        rings=rings,
        not_ringing=not_ringing,
        notified=notified(),
        bugs=bugs,
    )


def _disturb(rig: Rig, plan: Plan, errands: Errands, say: Callable[[str], None]) -> Past:
    """The time of trouble, and that in which everything comes to its end."""
    size, loud = plan.size, errands.all[len(plan.quiet) :]
    say(f"{len(loud)} imports under trouble, for {size.seconds:.0f} s")
    last = rig.sandbox.get("/_sandbox/journal", params={"import_id": "-"}).json()["last"]
    faults = rig.control("faults", list(plan.calls))["faults"]
    trouble = Trouble(rig, plan)
    trouble.start()
    working = _Background(lambda: asyncio.run(errands.run(loud)))
    begun = time.monotonic()
    # On a busy machine processes take longer to come back, and less is hurt in the same time.
    while (passed := time.monotonic() - begun) < size.seconds or (
        passed < _LONGEST * size.seconds
        and not (trouble.is_over and _hits(rig, faults) >= size.least_hurt)
        and not (trouble.is_over and not working.is_alive())
    ):
        time.sleep(0.5)
    trouble.stop()
    for fault in faults:
        rig.sandbox.delete("/_sandbox/faults", params={"id": fault["id"]})
    ended = time.monotonic()
    entries = rig.sandbox.get("/_sandbox/journal", params={"after": last}).json()["entries"]

    say("the trouble is over; everything has to come to its end")
    silent = _silent_workers(rig)
    open_at_end = _settle(errands, ended + size.settle_seconds, working.is_alive)
    settled = time.monotonic() - ended
    working.check()
    stuck = [row.id for row in errands.board.in_state("stuck")]
    retried = _to_retry(errands, loud)
    say(f"settled after {settled:.0f} s; retrying {len(stuck)} stuck, {len(retried)} failed")
    begun = time.monotonic()
    asyncio.run(errands.retry([*stuck, *retried]))
    open_at_end += _settle(errands, begun + size.settle_seconds, lambda: False)
    ours = {fault["id"]: _kind_of(fault) for fault in faults}
    struck = [
        {ours[one["id"]] for one in entry["faults"] if one["id"] in ours} for entry in entries
    ]
    return Past(
        seconds=passed,
        done=trouble.done,
        calls=len(entries),
        calls_hurt=sum(1 for kinds in struck if kinds),
        calls_by_fault=Counter(kind for kinds in struck for kind in kinds),
        settled_seconds=settled,
        settled_again_seconds=time.monotonic() - begun,
        open_at_end=open_at_end,
        stuck=stuck,
        retried=retried,
        silent_workers=silent,
    )


def _hits(rig: Rig, faults: Sequence[Mapping[str, Any]]) -> int:
    """How many calls the faults have hurt so far; one that met two counts twice."""
    ours = {fault["id"] for fault in faults}
    found = rig.sandbox.get("/_sandbox/faults").json()["faults"]
    return sum(fault["hits"] for fault in found if fault["id"] in ours)


def _kind_of(fault: Mapping[str, Any]) -> str:
    status = f" {fault['status']}" if "status" in fault else ""
    return f"{fault['action']}{status}" + (" with Retry-After" if "retry_after" in fault else "")


class _Background(threading.Thread):
    """Something that goes on meanwhile, whose failure is not overlooked."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(name="errands", daemon=True)
        self._work = work
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 -- raised again by check
            self._error = error

    def check(self) -> None:
        """Raises what went wrong."""
        if self._error is not None:
            raise self._error


@contextmanager
def _spools() -> Iterator[tuple[Spool, Spool]]:
    with tempfile.TemporaryDirectory(prefix="trunkline-") as directory:
        spools = Spool(Path(directory) / "answers"), Spool(Path(directory) / "commands")
        try:
            yield spools
        finally:
            for spool in spools:
                spool.close()


def _keep(rig: Rig, where: Path | None) -> None:
    if where is not None:
        shutil.copytree(rig.stack.logs_dir, where, dirs_exist_ok=True)


def _models(rig: Rig, quiet: Sequence[Errand]) -> dict[tuple[str, str, str], str]:
    """What imports of each kind make when nothing disturbs them."""
    models = {}
    for errand in quiet:
        job = rig.job(errand.import_id)
        assert job["status"] == "active", f"undisturbed, and yet {job['status']}: {job['error']}"
        models[errand.prepared.planned.kind] = errand.import_id
    return models


def _silent_workers(rig: Rig) -> list[str]:
    """Names the workers that live and do not answer."""
    url, workers = rig.stack.redis.url, {worker.name for worker in rig.stack.workers}
    deadline = time.monotonic() + _ANSWER_SECONDS
    while workers and time.monotonic() < deadline:
        workers -= {name for name in workers if worker_answers(url, worker_node(name))}
    return sorted(workers)


def _settle(errands: Errands, deadline: float, goes_on: Callable[[], bool]) -> list[str]:
    """Waits until nothing is open; returns what still is when the time is up."""
    while True:
        errands.board.read()
        still_open = [f"{row.kind} {row.id} is {row.state}" for row in errands.board.open()]
        if not still_open and not goes_on():
            return []
        if time.monotonic() > deadline:
            return still_open or ["an errand did not come to its end"]
        time.sleep(0.5)


def _to_retry(errands: Errands, loud: Sequence[Errand]) -> list[str]:
    """Every other import that only the trouble made fail; the rest shows that it was undone."""
    failed = {row.id for row in errands.board.in_state("failed") if row.kind == "import"}
    mine = [
        errand.import_id
        for errand in loud
        if errand.prepared.planned.fate == "plain" and errand.import_id in failed
    ]
    return mine[::2]


def _evidence(
    rig: Rig,
    errands: Errands,
    before: Mapping[str, Any],
    models: Mapping[tuple[str, str, str], str],
) -> Evidence:
    imports = []
    for errand in errands.all:
        one = errand.prepared
        imports.append(
            Import(
                key=one.key,
                ids=frozenset(errand.ids),
                number=one.number,
                account=(one.planned.provider, one.account) if one.account else None,
                kind=one.planned.kind,
            )
        )
    jobs = [
        Job(
            id=f"imp_{job.hex}",
            kind=kind,
            state=state,
            import_id=f"imp_{owner.hex}",
            number=number,
            error_code=code,
            error_message=message,
            undo_error_step=step,
        )
        for job, kind, state, owner, number, code, message, step in rig.sql(_JOBS)
    ]
    numbers = [
        Number(number=number, import_id=f"imp_{owner.hex}", status=status)
        for number, owner, status in rig.sql(_NUMBERS)
    ]
    return Evidence(
        imports=imports,
        jobs=jobs,
        numbers=numbers,
        keys=[key for (key,) in rig.sql(_KEYS)],
        before=before,
        after=rig.state(),
        models=models,
    )


def _ring(rig: Rig, errands: Errands, held: set[str], plan: Plan) -> tuple[int, list[str]]:
    """Calls every number that is ours, and returns how many, and which do not reach their agent."""
    answering = [errand for errand in errands.all if errand.import_id in held]

    def ring(errand: Errand) -> str | None:
        # The vendors wait five seconds for an answer, which a busy machine may need: call again.
        for _ in range(2):
            trace = _call(rig, errand.prepared, plan)
            reached = trace["outcome"] == "agent" and trace["agent_name"] in errand.agents
            if reached and not trace["problems"]:
                return None
        kind = "-".join(errand.prepared.planned.kind)
        return f"{errand.import_id} ({kind}): {trace['outcome']}, {trace['reason']}"

    with ThreadPoolExecutor(2) as pool:
        heard = list(pool.map(ring, answering))
    return len(heard), [one for one in heard if one is not None]


def _call(rig: Rig, one: Prepared, plan: Plan) -> Any:
    order = {"vendor": one.planned.provider, "number": one.number, "from": "+14155550199"}
    if one.planned.shape == "login":
        order["pin"] = plan.pin
    if one.planned.provider == "sip":
        host = rig.stack.environment["LIVEKIT_SIP_URI"].removeprefix("sip:")
        sip = one.body["sip"]
        login = {"username": sip["username"], "password": sip["password"]}
        return rig.control("calls", {**order, "address": f"{host};transport=tcp", **login})
    return rig.control("calls", {**order, "account": one.account})


def _bugs(rig: Rig) -> Counter[str]:
    found: Counter[str] = Counter()
    for log in rig.stack.logs_dir.glob("worker*.log"):
        with log.open(errors="replace") as lines:
            for line in lines:
                found.update(bug for bug in BUGS if bug in line)
    return found
