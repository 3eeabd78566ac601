"""How an organisation goes: its numbers given back, then everything that it gave us deleted."""

from __future__ import annotations

from contextlib import suppress

from worker.db.erasure import Holdings
from worker.domain.access import Caller
from worker.domain.errors import InvalidState, NotFound, NumberBusy
from worker.domain.values import format_id
from worker.service.imports import Imports
from worker.service.numbers import Numbers


class Erasing(Imports, Numbers):
    """Requests of an operator that end an organisation."""

    def wind_up(self, caller: Caller) -> Holdings:
        """Revokes every key, stops what runs, asks for each number's release; returns what is left.

        Safe to repeat: yes; until nothing is left, or only what is stuck.
        """
        self._directory.revoke_all_keys(caller.organization_id)
        found = self._directory.holdings(caller.organization_id)
        for job_id in found.going:
            # It may have ended since, or be one that cannot be stopped and ends by itself.
            with suppress(InvalidState, NotFound):
                self.cancel(caller, format_id("imp", job_id))
        for number_id in found.numbers:
            with suppress(NumberBusy, NotFound):
                self.release(caller, format_id("num", number_id))
        return self._directory.holdings(caller.organization_id)

    def erase(self, caller: Caller) -> dict[str, int]:
        """Deletes everything that an organisation gave us but its audit log; rows by table.

        Raises:
            InvalidState: something of it is in use; see ``wind_up``.

        Safe to repeat: yes, also after it was interrupted.
        """
        organization = format_id("org", caller.organization_id)
        deed = self._deed(caller, "organization.erase", organization)
        return self._directory.erase(deed, caller.organization_id)
