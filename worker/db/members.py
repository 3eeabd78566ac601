"""Every query on organisations, and on the users and agents that their numbers refer to.

A user or an agent that is deleted keeps its row, since old jobs name it; nothing finds it any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    Connection,
    Engine,
    Text,
    Uuid,
    bindparam,
    exc,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from uuid_utils.compat import uuid7

from worker.db.audit import Deed, note
from worker.db.models import Agent, Credential, ImportJob, Organization, PhoneNumber, User
from worker.db.prepared import Prepared
from worker.domain.errors import (
    AgentInUse,
    AgentNotFound,
    CredentialNotFound,
    ExternalIdTaken,
    TrunklineError,
    UserInUse,
    UserNotFound,
)
from worker.domain.job import OPEN
from worker.domain.references import Reference
from worker.domain.values import NumberStatus, format_id, parse_id

_NOW: Final = func.clock_timestamp()


@dataclass(frozen=True, kw_only=True)
class OrganizationRecord:
    """An organisation as its members know it."""

    id: UUID
    name: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class UserRecord:
    """A person whom numbers may belong to."""

    id: UUID
    name: str
    external_id: str | None
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class AgentRecord:
    """A voice agent that answers numbers."""

    id: UUID
    name: str
    dispatch_name: str
    external_id: str | None
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a reference names, and whose it is."""

    id: UUID
    organization_id: UUID


_USER: Final = tuple(getattr(User, name) for name in UserRecord.__dataclass_fields__)
_AGENT: Final = tuple(getattr(Agent, name) for name in AgentRecord.__dataclass_fields__)


@cache
def _named(model: Any) -> Prepared:  # noqa: ANN401 -- a model
    """What a reference names; an id that is not given is null, and equal to none."""
    own = model.organization_id == bindparam("caller", type_=Uuid)
    is_it = model.id == bindparam("own_id", type_=Uuid)
    is_called_so = own & (model.external_id == bindparam("other_id", type_=Text))
    return Prepared(
        select(model.id, model.organization_id)
        .where(or_(is_it, is_called_so), model.deleted_at.is_(None))
        .order_by(own.desc(), is_it.desc())
        .limit(1)
    )


class Members:
    """Organisations, users and agents; and what external ids name."""

    _engine: Engine
    _single: Engine

    # Organisations

    def create_organization(self, name: str) -> UUID:
        """Stores a tenant; returns its id."""
        new_id = uuid7()
        with self._engine.begin() as connection:
            connection.execute(insert(Organization).values(id=new_id, name=name))
        return new_id

    def find_organization(self, name: str) -> UUID | None:
        """Returns the oldest organisation that the operator gave that name."""
        query = select(Organization.id).where(Organization.name == name).order_by(Organization.id)
        with self._single.connect() as connection:
            return connection.execute(query.limit(1)).scalar()

    def get_organization(self, organization_id: UUID) -> OrganizationRecord:
        """Returns an organisation that is there, under the name that it goes by."""
        query = select(
            Organization.id,
            func.coalesce(Organization.display_name, Organization.name).label("name"),
            Organization.created_at,
        ).where(Organization.id == organization_id)
        with self._single.connect() as connection:
            return OrganizationRecord(**connection.execute(query).one()._asdict())

    def rename_organization(self, deed: Deed, name: str) -> None:
        """Changes the name that the deed's organisation goes by, not the operator's for it."""
        self._change(deed, Organization, deed.organization_id, {"display_name": name})

    # Users

    def create_user(
        self, deed: Deed, user_id: UUID, *, name: str, external_id: str | None = None
    ) -> None:
        """Stores a person of the deed's organisation.

        Raises:
            ExternalIdTaken: another user has it.
        """
        self._add(deed, User, id=user_id, name=name, external_id=external_id)

    def get_user(self, user_id: UUID) -> UserRecord | None:
        """Returns a user; whose it is, was asked before."""
        row = self._row(select(*_USER).where(User.id == user_id, User.deleted_at.is_(None)))
        return None if row is None else UserRecord(**row)

    def list_users(
        self, organization_id: UUID, *, limit: int, before: UUID | None
    ) -> list[UserRecord]:
        """Returns an organisation's users, newest first."""
        rows = self._page(User, _USER, organization_id, limit=limit, before=before)
        return [UserRecord(**row) for row in rows]

    def change_user(self, deed: Deed, user_id: UUID, values: Mapping[str, object]) -> None:
        """Changes what is given.

        Raises:
            UserNotFound: it was deleted meanwhile.
            ExternalIdTaken: another user has it.
        """
        self._change(deed, User, user_id, values, gone=UserNotFound)

    def delete_user(self, deed: Deed, user_id: UUID) -> None:
        """Forgets a user.

        Raises:
            UserNotFound: it was deleted meanwhile.
            UserInUse: a number or an unfinished job names them.
        """
        in_use = or_(
            exists().where(
                PhoneNumber.organization_id == deed.organization_id,
                PhoneNumber.user_id == user_id,
                PhoneNumber.status != NumberStatus.RELEASED,
            ),
            exists().where(
                ImportJob.organization_id == deed.organization_id,
                ImportJob.user_id == user_id,
                ImportJob.state.in_(OPEN),
            ),
        )
        self._forget(deed, User, user_id, in_use, gone=UserNotFound, used=UserInUse)

    # Agents

    def create_agent(
        self,
        deed: Deed,
        agent_id: UUID,
        *,
        name: str,
        dispatch_name: str,
        external_id: str | None = None,
    ) -> None:
        """Stores an agent of the deed's organisation.

        Raises:
            ExternalIdTaken: another agent has it.
        """
        self._add(
            deed,
            Agent,
            id=agent_id,
            name=name,
            dispatch_name=dispatch_name,
            external_id=external_id,
        )

    def get_agent(self, agent_id: UUID) -> AgentRecord | None:
        """Returns an agent; whose it is, was asked before."""
        row = self._row(select(*_AGENT).where(Agent.id == agent_id, Agent.deleted_at.is_(None)))
        return None if row is None else AgentRecord(**row)

    def list_agents(
        self, organization_id: UUID, *, limit: int, before: UUID | None
    ) -> list[AgentRecord]:
        """Returns an organisation's agents, newest first."""
        rows = self._page(Agent, _AGENT, organization_id, limit=limit, before=before)
        return [AgentRecord(**row) for row in rows]

    def agent_dispatch_name(self, agent_id: UUID | None) -> str | None:
        """Returns the agent_name under which an agent's workers register at LiveKit."""
        query = select(Agent.dispatch_name).where(Agent.id == agent_id)
        with self._single.connect() as connection:
            return connection.execute(query).scalar()

    def change_agent(self, deed: Deed, agent_id: UUID, values: Mapping[str, object]) -> None:
        """Changes what is given; numbers that are set up keep the dispatch name that they have.

        Raises:
            AgentNotFound: it was deleted meanwhile.
            ExternalIdTaken: another agent has it.
        """
        self._change(deed, Agent, agent_id, values, gone=AgentNotFound)

    def delete_agent(self, deed: Deed, agent_id: UUID) -> None:
        """Forgets an agent.

        Raises:
            AgentNotFound: it was deleted meanwhile.
            AgentInUse: a number or an unfinished job names it, as its agent or as its fallback.
        """
        organization_id = deed.organization_id
        is_fallback = ImportJob.request["fallback_agent_id"].astext == format_id("agt", agent_id)
        kept = PhoneNumber.status != NumberStatus.RELEASED
        in_use = or_(
            exists().where(
                PhoneNumber.organization_id == organization_id,
                PhoneNumber.agent_id == agent_id,
                kept,
            ),
            exists().where(
                PhoneNumber.organization_id == organization_id,
                kept,
                ImportJob.id == func.coalesce(PhoneNumber.job_id, PhoneNumber.import_id),
                is_fallback,
            ),
            exists().where(
                ImportJob.organization_id == organization_id,
                ImportJob.state.in_(OPEN),
                or_(ImportJob.agent_id == agent_id, is_fallback),
            ),
        )
        self._forget(deed, Agent, agent_id, in_use, gone=AgentNotFound, used=AgentInUse)

    # What ids name

    def find_user(self, organization_id: UUID, reference: Reference) -> Found | None:
        """Returns the user that a caller of this organisation means."""
        return self._find(User, organization_id, reference)

    def find_agent(self, organization_id: UUID, reference: Reference) -> Found | None:
        """Returns the agent that a caller of this organisation means."""
        return self._find(Agent, organization_id, reference)

    def find_credential(self, organization_id: UUID, reference: Reference) -> Found | None:
        """Returns the credential that a caller of this organisation means."""
        return self._find(Credential, organization_id, reference)

    def name_credential(self, deed: Deed, credential_id: UUID, external_id: str | None) -> None:
        """Gives a credential an external id, or takes it away.

        Raises:
            CredentialNotFound: it was deleted meanwhile.
            ExternalIdTaken: another credential has it.
        """
        values = {"external_id": external_id}
        self._change(deed, Credential, credential_id, values, gone=CredentialNotFound)

    def _find(self, model: Any, organization_id: UUID, reference: Reference) -> Found | None:  # noqa: ANN401 -- a model
        """What is the caller's own comes before anybody else's, our id before an external one."""
        with self._single.connect() as connection:
            row = (
                _named(model)
                .execute(
                    connection,
                    caller=organization_id,
                    own_id=reference.own_id,
                    other_id=reference.external_id,
                )
                .first()
            )
        return None if row is None else Found(**row._asdict())

    # Helpers

    def _row(self, query: Any) -> dict[str, Any] | None:  # noqa: ANN401 -- a Select of anything
        with self._single.connect() as connection:
            row = connection.execute(query).first()
            return None if row is None else row._asdict()

    def _page(
        self,
        model: Any,  # noqa: ANN401 -- a model
        columns: tuple[Any, ...],
        organization_id: UUID,
        *,
        limit: int,
        before: UUID | None,
    ) -> list[dict[str, Any]]:
        query = select(*columns).where(
            model.organization_id == organization_id, model.deleted_at.is_(None)
        )
        if before is not None:
            query = query.where(model.id < before)
        with self._single.connect() as connection:
            rows = connection.execute(query.order_by(model.id.desc()).limit(limit))
            return [row._asdict() for row in rows]

    def _add(self, deed: Deed, model: Any, **values: Any) -> None:  # noqa: ANN401 -- a model, its columns
        with self._engine.begin() as connection, _named_once():
            connection.execute(insert(model).values(organization_id=deed.organization_id, **values))
            note(connection, deed)

    def _change(
        self,
        deed: Deed,
        model: Any,  # noqa: ANN401 -- a model
        row_id: UUID | None,
        values: Mapping[str, Any],
        *,
        gone: type[TrunklineError] | None = None,
    ) -> None:
        with self._engine.begin() as connection, _named_once():
            query = update(model).where(model.id == row_id)
            if gone is not None:
                query = query.where(model.deleted_at.is_(None))
            changed = connection.execute(query.values(**values))
            if changed.rowcount == 0 and gone is not None:
                raise gone
            note(connection, deed)

    def _forget(
        self,
        deed: Deed,
        model: Any,  # noqa: ANN401 -- a model
        row_id: UUID,
        in_use: Any,  # noqa: ANN401 -- an expression
        *,
        gone: type[TrunklineError],
        used: type[TrunklineError],
    ) -> None:
        with self._engine.begin() as connection:
            # The lock orders this against a submit, which holds what its job names.
            there = connection.execute(
                select(model.id)
                .where(model.id == row_id, model.deleted_at.is_(None))
                .with_for_update()
            ).scalar()
            if there is None:
                raise gone
            if connection.execute(select(in_use)).scalar():
                raise used
            connection.execute(update(model).where(model.id == row_id).values(deleted_at=_NOW))
            note(connection, deed)


def hold_named(
    connection: Connection,
    *,
    agent_id: UUID | None,
    user_id: UUID | None,
    request: Mapping[str, Any],
) -> None:
    """Keeps whom a job names from being deleted before the job is stored.

    Raises:
        AgentNotFound: the agent, or the fallback agent, has just been deleted.
        UserNotFound: the user has just been deleted.
    """
    fallback = parse_id("agt", request.get("fallback_agent_id") or "")
    _hold(connection, Agent, {agent_id, fallback} - {None}, AgentNotFound)
    _hold(connection, User, {user_id} - {None}, UserNotFound)


def _hold(
    connection: Connection,
    model: Any,  # noqa: ANN401 -- a model
    wanted: set[UUID | None],
    gone: type[TrunklineError],
) -> None:
    if not wanted:
        return
    held = connection.execute(
        select(model.id)
        .where(model.id.in_(wanted), model.deleted_at.is_(None))
        .with_for_update(read=True, key_share=True)
    ).all()
    if len(held) < len(wanted):
        raise gone


@contextmanager
def _named_once() -> Iterator[None]:
    """Names what the indexes on external ids refuse."""
    try:
        yield
    except exc.IntegrityError as error:
        if "_organization_id_external_id" in str(error.orig):
            raise ExternalIdTaken from None
        raise
