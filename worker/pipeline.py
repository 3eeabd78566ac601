"""The whole import, top to bottom. Undo runs from the bottom up.

Each line is one file in worker/steps, one named Celery task (``imports.<name>``), one row of
job_steps and one value of the cursor. A step may be run again at any point, also by two workers at
once: the guard (worker/steps/_guard.py) lets one of them work, and what it left is found and
adopted. Nothing before route_number moves a call; everything that a call needs exists when it does.
"""

from __future__ import annotations

from typing import Final

from worker.domain.job import StepName
from worker.steps import (
    check_ownership,
    configure_webhooks,
    create_dispatch_rule,
    persist_number,
    provision_trunks,
    route_number,
    validate_credentials,
)

STEPS: Final = (
    validate_credentials.STEP,  # are these credentials genuine?
    check_ownership.STEP,  # is the number theirs, and may its routing be replaced?
    configure_webhooks.STEP,  # call status and SMS come to us
    provision_trunks.STEP,  # LiveKit and provider trunks exist
    create_dispatch_rule.STEP,  # a call would find a room and an agent
    route_number.STEP,  # voice comes to us: the one write that moves live calls
    persist_number.STEP,  # the number is active
)
assert tuple(step.name for step in STEPS) == tuple(StepName), "StepName is in another order"
