"""The one write that moves live voice traffic; by now everything that a call needs exists."""

from __future__ import annotations

from worker.domain.job import StepName
from worker.domain.values import Fields
from worker.selftest import probe
from worker.steps import _routing
from worker.steps._core import Context, Done, Step


def _planned(ctx: Context) -> Fields:
    return ctx.provider.plan_voice(ctx.spec.routing_mode, ctx.plan.urls, ctx.objects)


def run(ctx: Context) -> Done:
    """Points voice at us; an import without inbound calls leaves it alone."""
    if ctx.spec.supports_inbound:
        _prove_callback(ctx)
        _routing.apply(ctx, "voice", _planned(ctx))
    return Done()


def _prove_callback(ctx: Context) -> None:
    """Calls our own voice URL as the provider will, before a live number is sent there.

    Everything that an answer needs exists by now, so what is found after the write would be found
    here as well, without a call that nobody answers.
    """
    webhooks = ctx.provider.webhooks
    if ctx.plan.is_called_back and webhooks is not None:
        ctx.attempt.lease.require(ctx.settings.call_seconds)
        probe(
            settings=ctx.settings,
            webhooks=webhooks,
            credentials=ctx.credentials,
            urls=ctx.plan.urls,
            number=ctx.spec.phone_number,
        )


def undo(ctx: Context) -> None:
    """Points voice back to where it went before, if it still comes to us."""
    if ctx.spec.supports_inbound:
        _routing.restore(ctx, "voice", _planned(ctx))


STEP = Step(name=StepName.ROUTE_NUMBER, run=run, undo=undo)
