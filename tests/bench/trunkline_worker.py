"""Trunkline's worker as it runs, but for what its steps do outside: `celery -A` this module.

The guard, its rows, claims, leases and heartbeat, the sealed secrets, the undo records, the
notifications' outbox, logs, metrics, Flower's events, the sweep and `imports.start` are the
product's. Each of the seven steps makes one call to the vendor of these measurements in place of
those of the vendors' SDKs, and leaves in the rows what the real step leaves. What is left out is
planning, the SDKs and the real number of calls: the second table measures those.

Importing this puts other steps into this process, so nothing but such a worker imports it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Final

from tests.bench.work import Calls
from worker import tasks
from worker.celery_app import app
from worker.domain.job import StepName
from worker.domain.values import Routing
from worker.livekit import INBOUND, RULE
from worker.pipeline import STEPS
from worker.steps._core import Context, Done, Step

__all__ = ["app"]

#: The routing of a number as a vendor tells it, of which undo would need all.
_ROUTING: Final = Routing(
    parts={
        "voice": {
            "voice_url": "https://pbx.example.com/voice",
            "voice_method": "POST",
            "voice_fallback_url": "https://pbx.example.com/fallback",
            "status_callback": "https://pbx.example.com/status",
        },
        "sms": {"sms_url": "https://pbx.example.com/sms", "sms_method": "POST"},
    }
)
#: Step → the kind of the object that it makes and writes down for its undo.
_MADE: Final = {
    StepName.CONFIGURE_WEBHOOKS: "application",
    StepName.PROVISION_TRUNKS: INBOUND,
    StepName.CREATE_DISPATCH_RULE: RULE,
}


@functools.cache
def _calls() -> Calls:
    return Calls()


def _run(name: StepName, real: Step) -> Callable[[Context], Done]:
    def run(ctx: Context) -> Done:
        # As every adapter does before each call.
        ctx.attempt.lease.require(ctx.settings.call_seconds)
        made = _calls().call(ctx.claim.job.id, name)
        if name in _MADE:
            ctx.record({_MADE[name]: made})
        if name is StepName.VALIDATE_CREDENTIALS:
            return Done(output={"account": made, "credential_kind": "main", "warnings": []})
        if name is StepName.CHECK_OWNERSHIP:
            return _owned(made)
        # The last one makes no call of its own, in the product.
        return real.run(ctx) if name is StepName.PERSIST_NUMBER else Done()

    return run


def _owned(number_id: str) -> Done:
    return Done(
        output={
            "number_id": number_id,
            "country": "US",
            "voice": True,
            "sms": True,
            "warnings": [],
        },
        secret={"routing": _ROUTING.to_json(), "bends": {}},
    )


def steps() -> Iterator[Step]:
    """Steps that call the vendor of these measurements once."""
    for real in STEPS:
        yield Step(name=real.name, run=_run(real.name, real), undo=real.undo, retry=real.retry)


tasks.work_with(steps())
