"""Users and agents: what the numbers of an organisation belong to, and who answers them."""

from __future__ import annotations

from typing import TypedDict
from uuid import UUID

from uuid_utils.compat import uuid7

from worker.db.members import AgentRecord, UserRecord
from worker.domain.access import Caller, Permission
from worker.domain.errors import AgentNotFound, UserNotFound
from worker.domain.references import parse_external_id
from worker.domain.values import format_id
from worker.service._core import Part, cursor_of


class UserChange(TypedDict, total=False):
    """What of a user is to change: what is left out stays, None clears."""

    name: str
    external_id: str | None


class AgentChange(TypedDict, total=False):
    """What of an agent is to change: what is left out stays, None clears."""

    name: str
    dispatch_name: str
    external_id: str | None


class Members(Part):
    """Requests about users and agents; each may be named by any spelling of its id."""

    # Users

    def create_user(self, caller: Caller, *, name: str, external_id: str | None = None) -> str:
        """Makes a user that numbers can belong to; returns their id.

        Raises:
            InvalidRequest: the external id is none.
            ExternalIdTaken: another user has it.
        """
        caller.require(Permission.MANAGE_DIRECTORY)
        _check_external_id(external_id)
        user_id = uuid7()
        user = format_id("usr", user_id)
        self._directory.create_user(
            self._deed(caller, "user.create", user), user_id, name=name, external_id=external_id
        )
        return user

    def get_user(self, caller: Caller, user_id: str) -> UserRecord:
        """Returns a user.

        Raises:
            UserNotFound: the organisation has none of this id.
        """
        return self._read_user(self.find_user(caller, user_id))

    def list_users(self, caller: Caller, *, limit: int, cursor: str | None) -> list[UserRecord]:
        """Returns the organisation's users, newest first."""
        caller.require(Permission.READ)
        return self._directory.list_users(
            caller.organization_id, limit=limit, before=cursor_of("usr", cursor)
        )

    def change_user(self, caller: Caller, user_id: str, change: UserChange) -> UserRecord:
        """Changes a user.

        Raises:
            UserNotFound: the organisation has none of this id.
            InvalidRequest: the external id is none.
            ExternalIdTaken: another user has it.

        Safe to repeat: yes.
        """
        caller.require(Permission.MANAGE_DIRECTORY)
        found = self.find_user(caller, user_id)
        _check_external_id(change.get("external_id"))
        if change:
            subject = format_id("usr", found)
            deed = self._deed(caller, "user.change", subject, fields=sorted(change))
            self._directory.change_user(deed, found, change)
        return self._read_user(found)

    def delete_user(self, caller: Caller, user_id: str) -> None:
        """Forgets a user.

        Raises:
            UserNotFound: the organisation has none of this id.
            UserInUse: a number or an unfinished job names them.
        """
        caller.require(Permission.MANAGE_DIRECTORY)
        found = self.find_user(caller, user_id)
        self._directory.delete_user(
            self._deed(caller, "user.delete", format_id("usr", found)), found
        )

    def _read_user(self, user_id: UUID) -> UserRecord:
        record = self._directory.get_user(user_id)
        if record is None:
            raise UserNotFound
        return record

    # Agents

    def create_agent(
        self, caller: Caller, *, name: str, dispatch_name: str, external_id: str | None = None
    ) -> str:
        """Makes an agent that numbers can refer to; returns its id.

        Raises:
            InvalidRequest: the external id is none.
            ExternalIdTaken: another agent has it.
        """
        caller.require(Permission.MANAGE_DIRECTORY)
        _check_external_id(external_id)
        agent_id = uuid7()
        agent = format_id("agt", agent_id)
        self._directory.create_agent(
            self._deed(caller, "agent.create", agent),
            agent_id,
            name=name,
            dispatch_name=dispatch_name,
            external_id=external_id,
        )
        return agent

    def get_agent(self, caller: Caller, agent_id: str) -> AgentRecord:
        """Returns an agent.

        Raises:
            AgentNotFound: there is none of this id.
            AgentNotOwned: it is another organisation's.
        """
        return self._read_agent(self.find_agent(caller, agent_id))

    def list_agents(self, caller: Caller, *, limit: int, cursor: str | None) -> list[AgentRecord]:
        """Returns the organisation's agents, newest first."""
        caller.require(Permission.READ)
        return self._directory.list_agents(
            caller.organization_id, limit=limit, before=cursor_of("agt", cursor)
        )

    def change_agent(self, caller: Caller, agent_id: str, change: AgentChange) -> AgentRecord:
        """Changes an agent; numbers that are set up keep calling the dispatch name of before.

        Raises:
            AgentNotFound: there is none of this id.
            AgentNotOwned: it is another organisation's.
            InvalidRequest: the external id is none.
            ExternalIdTaken: another agent has it.

        Safe to repeat: yes.
        """
        caller.require(Permission.MANAGE_DIRECTORY)
        found = self.find_agent(caller, agent_id)
        _check_external_id(change.get("external_id"))
        if change:
            subject = format_id("agt", found)
            deed = self._deed(caller, "agent.change", subject, fields=sorted(change))
            self._directory.change_agent(deed, found, change)
        return self._read_agent(found)

    def delete_agent(self, caller: Caller, agent_id: str) -> None:
        """Forgets an agent.

        Raises:
            AgentNotFound: there is none of this id.
            AgentNotOwned: it is another organisation's.
            AgentInUse: a number or an unfinished job names it, as its agent or as its fallback.
        """
        caller.require(Permission.MANAGE_DIRECTORY)
        found = self.find_agent(caller, agent_id)
        self._directory.delete_agent(
            self._deed(caller, "agent.delete", format_id("agt", found)), found
        )

    def _read_agent(self, agent_id: UUID) -> AgentRecord:
        record = self._directory.get_agent(agent_id)
        if record is None:
            raise AgentNotFound
        return record

    # Credentials

    def name_credential(self, caller: Caller, credential_id: str, external_id: str | None) -> None:
        """Gives a stored credential the organisation's own id of it; None takes it away.

        Raises:
            CredentialNotFound: there is none of this id.
            CredentialNotOwned: it is another organisation's.
            InvalidRequest: the external id is none.
            ExternalIdTaken: another credential has it.

        Safe to repeat: yes.
        """
        caller.require(Permission.CREATE_NUMBERS)
        found = self.find_credential(caller, credential_id)
        _check_external_id(external_id)
        deed = self._deed(caller, "credential.change", format_id("cred", found))
        self._directory.name_credential(deed, found, external_id)


def _check_external_id(text: str | None) -> None:
    if text is not None:
        parse_external_id(text)
