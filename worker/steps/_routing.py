"""The dance around every write to a live number: read, write once, read back; and the way back.

No vendor offers a conditional update, so a write is enclosed in reads, and restoring touches only
what is still ours: a customer who has re-pointed the number meanwhile keeps what they chose.
"""

from __future__ import annotations

import structlog

from worker.domain.errors import NotSettled, NumberNotOwned
from worker.domain.values import Fields
from worker.steps._core import Context

_log = structlog.get_logger()


def apply(ctx: Context, part: str, planned: Fields) -> None:
    """Points one part of the number at us and proves it by reading back.

    Raises:
        NumberNotOwned: the number has left the account.
        NotSettled: the vendor took the write but does not show it (yet).

    Safe to repeat: yes, what is already so is not written again.
    """
    current = ctx.provider.read_routing(ctx.number_id)
    if current is None:
        raise NumberNotOwned
    if _shows(current.parts[part], planned):
        return
    ctx.provider.write_routing(ctx.number_id, planned)
    written = ctx.provider.read_routing(ctx.number_id)
    if written is None:
        raise NumberNotOwned
    if not _shows(written.parts[part], planned):
        raise NotSettled(outcome_unknown=True)


def restore(ctx: Context, part: str, planned: Fields) -> None:
    """Puts one part of the number back as it was, if it is still ours, and proves it.

    A field that somebody else has changed since keeps their value.

    Raises:
        NotSettled: the vendor took the write but does not show it (yet).

    Safe to repeat: yes.
    """
    current = ctx.provider.read_routing(ctx.number_id)
    if current is None:
        _log.info("number left the account, nothing to restore", part=part)
        return
    ours = ctx.provider.target(part, planned)
    if ctx.provider.target(part, current.parts[part]) != ours:
        # Either our write never landed, or the customer has re-pointed the number: theirs to keep.
        return
    original = ctx.original.parts[part]
    back = {
        name: original[name]
        for name, value in planned.items()
        if current.parts[part][name] == value and original[name] != value
    }
    if not back:
        return
    ctx.provider.write_routing(ctx.number_id, back)
    written = ctx.provider.read_routing(ctx.number_id)
    if written is not None and not _shows(written.parts[part], back):
        raise NotSettled(outcome_unknown=True)


def _shows(fields: Fields, wanted: Fields) -> bool:
    return all(fields[name] == value for name, value in wanted.items())
