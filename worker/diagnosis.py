"""Why calls would not arrive: everything outside compared with what was set, in sentences.

Reads only. What cannot be looked at right now is an error, never a finding: "could not look" is
not "gone".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from worker.domain.errors import CallbacksUnreachable, NumberNotOwned, PermanentError
from worker.domain.values import NOWHERE, Fields, Objects, OwnedNumber, redact_url
from worker.livekit import INBOUND, LiveKit, planned_objects
from worker.plans import Plan


class Verdict(StrEnum):
    """What a check came to."""

    #: Everything is as it was set.
    OK = "ok"
    #: Something is not.
    DRIFTED = "drifted"


class Traffic(StrEnum):
    """What does not work because of a finding."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    SMS = "sms"
    STATUS = "status"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it was set."""

    #: Stable: "missing", "changed", "elsewhere", "shadowed", or the error that a read ended with.
    code: str
    #: The provider's name, "livekit", or "callbacks".
    where: str
    #: What it is, such as "number" or "livekit_inbound_trunk".
    object: str
    field: str | None
    expected: str | None
    found: str | None
    affects: Traffic
    #: For a person: what is wrong and what follows.
    sentence: str
    #: Whether a repair puts it right.
    repairable: bool = True


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What a check found."""

    verdict: Verdict
    #: One sentence: whether calls arrive, and if not, why.
    summary: str
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns what a JSONB column holds."""
        return asdict(self)

    @property
    def repairable(self) -> bool:
        """Whether a repair would put anything right."""
        return any(finding.repairable for finding in self.findings)


#: Kind of object → what people call it, and which traffic depends on it.
_OBJECTS: Final[Mapping[str, tuple[str, Traffic]]] = MappingProxyType(
    {
        "application": ("application that carries our voice URL", Traffic.INBOUND),
        "application_voice_profile": ("outbound profile of our application", Traffic.INBOUND),
        "messaging_profile": ("messaging profile", Traffic.SMS),
        "trunk": ("SIP trunk", Traffic.INBOUND),
        "origination": ("origination URL of the SIP trunk", Traffic.INBOUND),
        "credential_list": ("credential list of the SIP trunk", Traffic.OUTBOUND),
        "credential": ("login of the SIP trunk", Traffic.OUTBOUND),
        "connection": ("SIP connection", Traffic.INBOUND),
        "fqdn": ("SIP address of the connection", Traffic.INBOUND),
        "outbound_voice_profile": ("outbound profile of the connection", Traffic.OUTBOUND),
        "origination_uri": ("origination URI of the SIP trunk", Traffic.INBOUND),
        "inbound_trunk": ("inbound SIP trunk", Traffic.INBOUND),
        "outbound_trunk": ("outbound SIP trunk", Traffic.OUTBOUND),
        "livekit_inbound_trunk": ("inbound trunk", Traffic.INBOUND),
        "livekit_outbound_trunk": ("outbound trunk", Traffic.OUTBOUND),
        "dispatch_rule": ("dispatch rule", Traffic.INBOUND),
        "fallback_inbound_trunk": ("inbound trunk of the fallback agent", Traffic.INBOUND),
        "fallback_dispatch_rule": ("dispatch rule of the fallback agent", Traffic.INBOUND),
    }
)
_PARTS: Final = MappingProxyType(
    {"voice": Traffic.INBOUND, "sms": Traffic.SMS, "status": Traffic.STATUS}
)
#: Without this traffic …
_FOLLOWS: Final = MappingProxyType(
    {
        Traffic.INBOUND: "calls do not reach the agent as they should",
        Traffic.OUTBOUND: "calls from the number may fail",
        Traffic.SMS: "messages do not reach us",
        Traffic.STATUS: "we do not learn how calls end",
    }
)


def diagnose(
    plan: Plan,
    livekit: LiveKit,
    objects: Objects,
    *,
    number_id: str,
    termination_address: str | None,
    probe: Callable[[], None] | None,
) -> Diagnosis:
    """Compares everything outside with what was set.

    ``objects`` are the recorded ids of what was made, ``number_id`` is the vendor's id of the
    number, ``termination_address`` the host of a termination that we made. ``probe`` tests our own
    callback URL; None where no call depends on it.

    Raises:
        TransientError: something cannot be looked at right now.

    Safe to repeat: yes, reads only.
    """
    looking = _Looking(plan, objects)
    number = looking.at_number(number_id)
    if number is not None:
        looking.at_objects()
    looking.at_livekit(livekit, termination_address)
    if probe is not None:
        looking.at_callbacks(probe)
    findings = tuple(looking.findings)
    order = list(Traffic)
    worst = min(findings, key=lambda one: order.index(one.affects), default=None)
    return Diagnosis(
        verdict=Verdict.OK if worst is None else Verdict.DRIFTED,
        summary="Everything is as it was set." if worst is None else worst.sentence,
        findings=findings,
        warnings=number.warnings if number is not None else (),
    )


class _Looking:
    """One look at everything, and what it finds."""

    def __init__(self, plan: Plan, objects: Objects) -> None:
        self.findings: list[Finding] = []
        self._plan = plan
        self._objects = objects
        self._provider = plan.spec.provider
        self._vendor = plan.spec.provider.capitalize()

    def at_number(self, number_id: str) -> OwnedNumber | None:
        """Looks at the number; None if the account cannot be asked, or has it no more."""
        spec, provider = self._plan.spec, self._plan.provider
        try:
            provider.verify_credentials(spec.routing_mode)
            number = provider.find_number(spec.phone_number, number_id)
        except PermanentError as error:
            gone = isinstance(error, NumberNotOwned)
            text = f"The number is not in this {self._vendor} account any more"
            self._find(
                code=error.code,
                where=self._provider,
                object="number" if gone else "credential",
                sentence=f"{text}, so its calls go elsewhere." if gone else error.message,
                affects=Traffic.INBOUND,
                repairable=False,
            )
            return None
        urls = self._plan.urls
        planned = dict(self._plan.webhooks(self._objects))
        if spec.supports_inbound:
            planned["voice"] = provider.plan_voice(spec.routing_mode, urls, self._objects)
        for part, wanted in planned.items():
            self._compare_part(part, wanted, number.routing.parts[part])
        return number

    def at_objects(self) -> None:
        """Looks at what was made at the provider."""
        plan, provider = self._plan, self._plan.provider
        planned = plan.provider_objects(plan.trunk)
        found = provider.read_objects(plan.tag, self._objects)
        self._compare(self._provider, f" at {self._vendor}", planned, found)

    def at_livekit(self, livekit: LiveKit, termination_address: str | None) -> None:
        """Looks at what was made at LiveKit."""
        try:
            setup = self._plan.sip_setup(
                trunk_id=self._objects.get(INBOUND, ""), termination_address=termination_address
            )
            found = livekit.read_objects(setup, self._objects)
        except PermanentError as error:
            self._find(
                code=error.code,
                where="livekit",
                object="project",
                sentence=error.message,
                affects=Traffic.INBOUND,
                repairable=False,
            )
            return
        self._compare("livekit", " at LiveKit", planned_objects(setup), found)

    def at_callbacks(self, probe: Callable[[], None]) -> None:
        """Calls our own voice URL as the provider would."""
        try:
            probe()
        except (CallbacksUnreachable, PermanentError) as error:
            self._find(
                code=error.code,
                where="callbacks",
                object="voice_url",
                sentence=error.message,
                affects=Traffic.INBOUND,
                repairable=False,
            )

    def _compare_part(self, part: str, wanted: Fields, current: Fields) -> None:
        target = self._plan.provider.target
        ours, theirs = target(part, wanted), target(part, current)
        affects = _PARTS[part]
        if ours != theirs:
            goes = f"to a {theirs}" if theirs != NOWHERE else "nowhere"
            what = {"voice": "calls", "sms": "messages", "status": "call status"}[part]
            self._find(
                code="elsewhere",
                where=self._provider,
                object="number",
                field=part,
                expected=str(ours),
                found=str(theirs),
                affects=affects,
                sentence=f"At {self._vendor} the number's {what} now go {goes}, not to us.",
            )
            return
        for name, value in wanted.items():
            if current[name] != value:
                about = {"where": self._provider, "object": "number", "affects": affects}
                self._changed(name, value, current[name], noun="number", **about)

    def _compare(
        self,
        where: str,
        place: str,
        planned: Mapping[str, Fields],
        found: Mapping[str, Fields | None],
    ) -> None:
        for key, wanted in planned.items():
            noun, affects = _OBJECTS[key]
            current = found.get(key)
            if current is None:
                self._find(
                    code="missing",
                    where=where,
                    object=key,
                    expected="present",
                    found="missing",
                    affects=affects,
                    sentence=f"The {noun}{place} is gone, so {_FOLLOWS[affects]}.",
                )
                continue
            for name, value in wanted.items():
                if current.get(name) == value:
                    continue
                if name == "shadowed_by":
                    self._find(
                        code="shadowed",
                        where=where,
                        object=key,
                        field=name,
                        expected=None,
                        found=current.get(name),
                        affects=affects,
                        sentence=(
                            f"Another {noun}{place} takes the same calls ({current.get(name)}), so "
                            f"{_FOLLOWS[affects]}. Remove that one there."
                        ),
                        repairable=False,
                    )
                else:
                    about = {"where": where, "object": key, "affects": affects}
                    now = current.get(name, "")
                    self._changed(name, value, now, noun=f"{noun}{place}", **about)

    def _changed(self, name: str, expected: str, found: str, *, noun: str, **about: Any) -> None:  # noqa: ANN401 -- as _find
        was, now = redact_url(expected) or "empty", redact_url(found) or "empty"
        follows = _FOLLOWS[about["affects"]]
        self._find(
            code="changed",
            field=name,
            expected=was,
            found=now,
            sentence=f"The {noun} has {name} set to {now} instead of {was}, so {follows}.",
            **about,
        )

    def _find(
        self,
        *,
        field: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        repairable: bool = True,
        **about: Any,  # noqa: ANN401 -- the other fields of a finding
    ) -> None:
        self.findings.append(
            Finding(field=field, expected=expected, found=found, repairable=repairable, **about)
        )
