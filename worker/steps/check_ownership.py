"""Proves that the account owns the number, and keeps its routing; a foreign one is not replaced."""

from __future__ import annotations

from worker.domain.job import JobKind, StepName
from worker.domain.values import Fields, Routing
from worker.steps._core import Context, Done, Step


def run(ctx: Context) -> Done:
    """Finds the number by exact E.164 and keeps its complete routing; writes nothing outside."""
    found = ctx.provider.find_number(ctx.spec.phone_number, ctx.spec.number_sid)
    repairing = ctx.claim.job.kind is JobKind.REPAIR
    # What the number was before its import stays what it goes back to, whatever it drifted to.
    original = ctx.original if repairing else _without_ours(ctx, found.id, found.routing)
    if not repairing and not ctx.spec.replace_existing_routing:
        for part in ctx.plan.replaced_parts:
            ctx.plan.require_free(part, original.parts[part])
    return Done(
        output={
            "number_id": found.id,
            "country": found.country,
            "voice": found.voice,
            "sms": found.sms,
            "warnings": list(found.warnings),
        },
        # A foreign URL may carry a secret in its query string.
        secret={
            "routing": original.to_json(),
            "bends": ctx.original_bends if repairing else dict(found.bends),
        },
    )


def undo(ctx: Context) -> None:
    """Nothing to undo: the step only reads."""


def _without_ours(ctx: Context, number_id: str, routing: Routing) -> Routing:
    """Returns the routing with the saved original in every part that already points to us.

    Otherwise a re-import would keep our own URL as "what was there before".
    """
    mine = f"{ctx.settings.public_base_url}/callbacks/"
    ours = [
        part
        for part, fields in routing.parts.items()
        if ctx.provider.target(part, fields).value.startswith(mine)
    ]
    if not ours:
        return routing
    sealed = ctx.runtime.jobs.original_routing(ctx.spec.phone_number, number_id)
    saved: dict[str, Fields] = ctx.runtime.vault.open(sealed)["routing"] if sealed else {}
    empty = {part: dict.fromkeys(routing.parts[part], "") for part in ours}
    return Routing(parts={**routing.parts, **{part: saved.get(part, empty[part]) for part in ours}})


STEP = Step(name=StepName.CHECK_OWNERSHIP, run=run, undo=undo)
