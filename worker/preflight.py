"""What an import would do, without doing it: every read of it, and no write.

Everything that would refuse the import is told at once, with the code that it would end with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from worker.domain.errors import (
    AccountSuspended,
    InvalidCredentials,
    PermanentError,
    TrunkConflict,
)
from worker.domain.job import StepName
from worker.domain.values import Fields, OwnedNumber, Ownership, format_id, redact_url
from worker.livekit import INBOUND, OUTBOUND, LiveKit, planned_objects
from worker.plans import Plan
from worker.sip_hosts import look_up_sip_address

#: Stands for the id of something that does not exist yet.
_NEW: Final = "new"
#: Of something new, what is left empty tells nothing, nor does what only says that it is ours.
_NOTHING: Final = ("", "none")
_OURS: Final = ("name", "metadata", "attributes", "room_config", "shadowed_by")
#: After these the provider tells nothing more.
_NO_WAY_IN: Final = (InvalidCredentials, AccountSuspended)


@dataclass(frozen=True, kw_only=True)
class FieldChange:
    """One setting, as it is and as it would be; None where there is nothing."""

    field: str
    before: str | None
    after: str | None


@dataclass(frozen=True, kw_only=True)
class ObjectChange:
    """One thing outside that would be made or changed."""

    #: The provider's name, or "livekit".
    where: str
    #: What it is, such as "number" or "livekit_inbound_trunk".
    object: str
    #: "create" or "update".
    action: str
    step: StepName
    fields: tuple[FieldChange, ...]


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why the import would fail, and at which step."""

    error: PermanentError
    step: StepName | None


@dataclass(kw_only=True)
class Preflight:
    """What an import would find, change and be refused for."""

    changes: list[ObjectChange] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @contextmanager
    def noting(self, step: StepName | None) -> Iterator[None]:
        """Keeps a refusal and goes on; what may pass is raised."""
        try:
            yield
        except PermanentError as error:
            self.refuse(error, step)

    def refuse(self, error: PermanentError, step: StepName | None) -> None:
        """Keeps a refusal, once each."""
        known = {(type(one.error), one.error.message) for one in self.refusals}
        if (type(error), error.message) not in known:
            self.refusals.append(Refusal(error=error, step=step))

    def warn(self, warnings: Sequence[str]) -> None:
        """Keeps warnings, once each."""
        self.warnings += [text for text in warnings if text not in self.warnings]


def look(plan: Plan, livekit: LiveKit, found: Preflight) -> Preflight:
    """Adds what the provider and LiveKit say to what is known of an import already.

    Raises:
        TransientError: one of them cannot be asked right now.

    Safe to repeat: yes, reads only.
    """
    number = _ask_provider(plan, found)
    with found.noting(StepName.PROVISION_TRUNKS):
        look_up_sip_address(plan.spec, plan.settings)
    with found.noting(StepName.PROVISION_TRUNKS):
        _ask_livekit(plan, livekit)
    with found.noting(StepName.PROVISION_TRUNKS):
        found.changes += changes(plan, number)
    return found


def _ask_provider(plan: Plan, found: Preflight) -> OwnedNumber | None:
    spec = plan.spec
    with found.noting(StepName.VALIDATE_CREDENTIALS):
        found.warn(plan.provider.verify_credentials(spec.routing_mode).warnings)
    if any(isinstance(one.error, _NO_WAY_IN) for one in found.refusals):
        return None
    number = None
    with found.noting(StepName.CHECK_OWNERSHIP):
        number = plan.provider.find_number(spec.phone_number, spec.number_sid)
        found.warn(number.warnings)
    if number is None:
        return None
    if not spec.replace_existing_routing:
        for part in plan.replaced_parts:
            with found.noting(StepName.CHECK_OWNERSHIP):
                plan.require_free(part, number.routing.parts[part])
    found.warn(plan.provider.advise(number, sms=spec.sms_enabled))
    return number


def _ask_livekit(plan: Plan, livekit: LiveKit) -> None:
    rivals = livekit.rivals(plan.spec.phone_number) if plan.spec.supports_inbound else ()
    if rivals:
        raise TrunkConflict(
            f"LiveKit already has a trunk for this number that is not ours ({', '.join(rivals)}). "
            "Remove it there, then import."
        )


def changes(plan: Plan, number: OwnedNumber | None) -> list[ObjectChange]:
    """Returns what an import would make and change, in the order in which it would.

    ``number`` is None if it could not be found: then only what would be made is told.

    Raises:
        SipTrunkProvisionFailed: nobody could call the inbound trunk.
    """
    spec = plan.spec
    made = plan.provider_objects(plan.trunk)
    ids = dict.fromkeys(made, _NEW)
    found: list[ObjectChange] = []

    def create(objects: Mapping[str, Fields], where: str, step: StepName) -> None:
        for key, fields in objects.items():
            news = tuple(
                FieldChange(field=name, before=None, after=_shown(plan, value))
                for name, value in fields.items()
                if value not in _NOTHING and name not in _OURS
            )
            found.append(
                ObjectChange(where=where, object=key, action="create", step=step, fields=news)
            )

    def update(part: str, planned: Fields, step: StepName) -> None:
        if number is None:
            return
        current = number.routing.parts[part]
        news = tuple(
            FieldChange(
                field=name,
                before=_shown(plan, current.get(name, "")),
                after=_shown(plan, value),
            )
            for name, value in planned.items()
            if current.get(name, "") != value
        )
        if news:
            found.append(
                ObjectChange(
                    where=spec.provider, object="number", action="update", step=step, fields=news
                )
            )

    carriers = plan.provider_objects(None)
    create(carriers, spec.provider, StepName.CONFIGURE_WEBHOOKS)
    for part, planned in plan.webhooks(ids).items():
        update(part, planned, StepName.CONFIGURE_WEBHOOKS)
    trunks = {key: fields for key, fields in made.items() if key not in carriers}
    create(trunks, spec.provider, StepName.PROVISION_TRUNKS)
    setup = planned_objects(plan.sip_setup(trunk_id="", termination_address=_NEW))
    ends = {key: fields for key, fields in setup.items() if key in (INBOUND, OUTBOUND)}
    create(ends, "livekit", StepName.PROVISION_TRUNKS)
    rules = {key: fields for key, fields in setup.items() if key not in ends}
    create(rules, "livekit", StepName.CREATE_DISPATCH_RULE)
    if spec.supports_inbound:
        voice = plan.provider.plan_voice(spec.routing_mode, plan.urls, ids)
        update("voice", voice, StepName.ROUTE_NUMBER)
    return found


def _shown(plan: Plan, value: str) -> str:
    """A value fit for everybody: no query of a foreign URL, no id that will be another one."""
    own = format_id("num", plan.number_id)
    if own in value:
        return value.replace(own, "num_…")
    if value in (plan.secrets.inbound_username, plan.secrets.termination_username):
        return value if plan.spec.ownership is Ownership.ASSERTED else "generated"
    return redact_url(value)
