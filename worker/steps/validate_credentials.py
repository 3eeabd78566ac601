"""Proves the provider credentials with the cheapest call that works for their kind."""

from __future__ import annotations

from worker.domain.job import StepName
from worker.steps._core import Context, Done, Step


def run(ctx: Context) -> Done:
    """Asks the provider who these credentials belong to; writes nothing outside."""
    account = ctx.provider.verify_credentials(ctx.spec.routing_mode)
    return Done(
        output={
            "account": account.id,
            "credential_kind": account.credential_kind,
            "warnings": list(account.warnings),
        }
    )


def undo(ctx: Context) -> None:
    """Nothing to undo: the step only reads."""


STEP = Step(name=StepName.VALIDATE_CREDENTIALS, run=run, undo=undo)
