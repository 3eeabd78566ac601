"""Points everything but voice at us: call status, SMS, the application that carries our URLs."""

from __future__ import annotations

from worker.domain.job import StepName
from worker.steps import _routing
from worker.steps._core import Context, Done, Step


def run(ctx: Context) -> Done:
    """Makes the application where the provider needs one, then sets the webhooks of the number."""
    if ctx.spec.records_only:
        return Done()
    made = ctx.provider.prepare_application(
        ctx.tag, ctx.spec.routing_mode, ctx.plan.urls, sms=ctx.spec.sms_enabled, record=ctx.record
    )
    planned = ctx.plan.webhooks(made)
    for part, fields in planned.items():
        _routing.apply(ctx, part, fields)
    return Done(output={"parts": sorted(planned)})


def undo(ctx: Context) -> None:
    """Restores the webhooks that are still ours, then deletes what only this import used."""
    if ctx.spec.records_only:
        return
    planned = ctx.plan.webhooks(ctx.objects)
    for part, fields in planned.items():
        _routing.restore(ctx, part, fields)
    ctx.provider.remove_application(ctx.tag, ctx.objects)


STEP = Step(name=StepName.CONFIGURE_WEBHOOKS, run=run, undo=undo)
