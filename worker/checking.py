"""A number's check, from its row: who is asked, with which credentials, and what they must show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from worker.db.records import Setup
from worker.db.vault import Vault
from worker.diagnosis import Diagnosis, diagnose
from worker.domain.job import Attempt, Lease, StepName
from worker.domain.spec import ImportSecrets, ImportSpec
from worker.domain.values import ImportTag, Objects, Routing, format_id
from worker.livekit import LiveKit
from worker.plans import TERMINATION_ADDRESS, Plan
from worker.providers import PROVIDERS, Credentials
from worker.selftest import probe
from worker.settings import Settings

#: What is done without a job holds no lease: it only reads, so that it can disturb nobody.
_LONG: Final = 3600.0


class Opened:
    """A number's setup with its secrets open: for as long as somebody looks at it."""

    def __init__(self, setup: Setup, *, settings: Settings, vault: Vault, doing: str) -> None:
        self.setup = setup
        self._settings = settings
        self._vault = vault
        adapter = PROVIDERS[ImportSpec.from_json(setup.job.request).provider]
        self.attempt = reading(format_id("num", setup.number.id), doing)
        self.credentials: Credentials = adapter.credentials_model(
            **vault.open(setup.credential_sealed)
        )
        self.plan = Plan(
            spec=ImportSpec.from_json(setup.job.request),
            secrets=ImportSecrets(**vault.open(setup.job.sealed)),
            settings=settings,
            provider=adapter.connect(self.credentials, settings, self.attempt),
            tag=ImportTag(import_id=format_id("imp", setup.job.brought_in_by)),
            number_id=setup.number.id,
            agent_name=setup.agent_dispatch_name,
            fallback_agent_name=setup.fallback_dispatch_name,
        )

    @property
    def objects(self) -> Objects:
        """Ids of everything that was made outside, of all steps."""
        found: dict[str, str] = {}
        for step in self.setup.job.steps.values():
            found |= step.objects
        return found

    @property
    def original(self) -> Routing | None:
        """The routing that the number had before we touched it, once it is known."""
        step = self.setup.job.steps.get(StepName.CHECK_OWNERSHIP)
        if step is None or step.sealed is None:
            return None
        return Routing.from_json(self._vault.open(step.sealed)["routing"])

    def check(self) -> Diagnosis:
        """Compares everything outside with what was set.

        Raises:
            TransientError: something cannot be looked at right now.

        Safe to repeat: yes, reads only.
        """
        trunks = self.setup.job.steps[StepName.PROVISION_TRUNKS].output
        return diagnose(
            self.plan,
            LiveKit(self._settings, self.attempt, self.plan.tag),
            self.objects,
            number_id=self.setup.number.provider_number_id or "",
            termination_address=trunks.get(TERMINATION_ADDRESS),
            probe=self._probe(),
        )

    def _probe(self) -> Callable[[], None] | None:
        webhooks = self.plan.provider.webhooks
        if webhooks is None or not self.plan.is_called_back or not self._settings.self_test:
            return None
        return lambda: probe(
            settings=self._settings,
            webhooks=webhooks,
            credentials=self.credentials,
            urls=self.plan.urls,
            number=self.plan.spec.phone_number,
        )


def reading(subject: str, doing: str) -> Attempt:
    """Returns the attempt under whose name something is read without a job."""
    return Attempt(import_id=subject, step=doing, number=1, lease=Lease(seconds=_LONG))
