"""The seven steps of the model: small, and made like the real ones.

Find before create, record before going on, read back after a write, restore only what is ours. The
last one is the real step, as all it works on is the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.model.hands import gate
from tests.model.outside import APPLICATION, INBOUND, OURS, OUTBOUND, RULE, Outside, ours
from worker.domain.errors import NotSettled
from worker.domain.job import JobKind, Retry, StepName
from worker.domain.values import Ownership
from worker.steps import persist_number
from worker.steps._core import Context, Done, Step

#: Long waits: an example takes seconds of real time, which must decide nothing.
RETRY: Final = Retry(attempts=2, first_delay=20, longest_delay=60)


def make_steps(outside: Outside) -> dict[StepName, Step]:
    """Returns the steps, by name."""
    work = _Work(outside)
    runs = (
        (StepName.VALIDATE_CREDENTIALS, work.validate, _nothing),
        (StepName.CHECK_OWNERSHIP, work.check, _nothing),
        (StepName.CONFIGURE_WEBHOOKS, work.configure, work.unconfigure),
        (StepName.PROVISION_TRUNKS, work.provision, work.unprovision),
        (StepName.CREATE_DISPATCH_RULE, work.rule, work.unrule),
        (StepName.ROUTE_NUMBER, work.route, work.unroute),
        (StepName.PERSIST_NUMBER, _persist, _unpersist),
    )
    return {name: Step(name=name, run=run, undo=undo, retry=RETRY) for name, run, undo in runs}


@dataclass(frozen=True)
class _Work:
    outside: Outside

    def validate(self, ctx: Context) -> Done:
        self.outside.find(ctx, APPLICATION)
        return Done()

    def check(self, ctx: Context) -> Done:
        number = ctx.spec.phone_number
        found = {} if _asserted(ctx) else self.outside.read(ctx)
        if ctx.claim.job.kind is JobKind.REPAIR:
            found = ctx._before["routing"]
        elif any(value.startswith(OURS) for value in found.values()):
            self.outside.wrongs.append(f"{number} came with {found}: not undone before")
        return Done(
            output={"number_id": number, "country": "US", "sms": True}, secret={"routing": found}
        )

    def configure(self, ctx: Context) -> Done:
        self._ensure(ctx, APPLICATION)
        self._apply(ctx, "sms")
        return Done()

    def unconfigure(self, ctx: Context) -> None:
        self._restore(ctx, "sms")
        self._remove(ctx, APPLICATION)

    def provision(self, ctx: Context) -> Done:
        self._ensure(ctx, OUTBOUND)
        self._ensure(ctx, INBOUND)
        return Done()

    def unprovision(self, ctx: Context) -> None:
        self._remove(ctx, INBOUND)
        self._remove(ctx, OUTBOUND)

    def rule(self, ctx: Context) -> Done:
        self._ensure(ctx, RULE, ctx.spec.room_prefix)
        return Done()

    def unrule(self, ctx: Context) -> None:
        self._remove(ctx, RULE)

    def route(self, ctx: Context) -> Done:
        self._apply(ctx, "voice")
        return Done()

    def unroute(self, ctx: Context) -> None:
        self._restore(ctx, "voice")

    def _ensure(self, ctx: Context, kind: str, content: str = "") -> None:
        found = self.outside.find(ctx, kind)
        if not found:
            found = [self.outside.make(ctx, kind, content)]
        elif self.outside.things[found[0]].content != content:
            self.outside.change(ctx, found[0], content)
        ctx.record({kind: found[0]})

    def _remove(self, ctx: Context, kind: str) -> None:
        for object_id in self.outside.find(ctx, kind):
            self.outside.delete(ctx, object_id)

    def _apply(self, ctx: Context, part: str) -> None:
        wanted = ours(ctx.tag.import_id)
        if _asserted(ctx) or self.outside.read(ctx)[part] == wanted:
            return
        self.outside.point(ctx, part, wanted)
        if self.outside.read(ctx)[part] != wanted:
            raise NotSettled(outcome_unknown=True)

    def _restore(self, ctx: Context, part: str) -> None:
        wanted = ours(ctx.tag.import_id)
        if _asserted(ctx) or self.outside.read(ctx)[part] != wanted:
            return
        self.outside.point(ctx, part, ctx._before["routing"][part])
        if self.outside.read(ctx)[part] == wanted:
            raise NotSettled(outcome_unknown=True)


def _persist(ctx: Context) -> Done:
    gate(ctx.claim, "activate")
    done = persist_number.run(ctx)
    gate(ctx.claim, "after activate")
    return done


def _unpersist(ctx: Context) -> None:
    gate(ctx.claim, "deactivate")
    persist_number.undo(ctx)
    gate(ctx.claim, "after deactivate")


def _nothing(ctx: Context) -> None:
    """Nothing to undo: the step only reads."""


def _asserted(ctx: Context) -> bool:
    """Whether nobody can touch the number: its carrier has no API."""
    return ctx.spec.ownership is Ownership.ASSERTED
