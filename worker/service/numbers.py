"""Imported numbers."""

from __future__ import annotations

from worker.db.directory import NumberRecord
from worker.domain.access import Caller, Permission
from worker.domain.errors import NotFound
from worker.domain.values import parse_id
from worker.service._core import Part, cursor_of


class Numbers(Part):
    """Requests about imported numbers."""

    def get_number(self, caller: Caller, number_id: str) -> NumberRecord:
        """Returns an active number.

        Raises:
            NotFound: the caller's organisation has no such number.
        """
        caller.require(Permission.READ)
        found = parse_id("num", number_id)
        number = None if found is None else self._directory.get_number(found)
        if (
            number is None
            or number.organization_id != caller.organization_id
            or number.status != "active"
        ):
            raise NotFound("There is no phone number with this id.")
        return number

    def list_numbers(self, caller: Caller, *, limit: int, cursor: str | None) -> list[NumberRecord]:
        """Returns the organisation's active numbers, newest first."""
        caller.require(Permission.READ)
        return self._directory.list_numbers(
            caller.organization_id, limit=limit, before=cursor_of("num", cursor)
        )
