"""What the API takes and answers of organisations, users, agents, API keys and the audit log."""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
)
from pydantic.alias_generators import to_camel

from api_stub.schemas import Timestamp
from worker.domain.references import EXTERNAL_ID
from worker.domain.values import format_id, require_one_line
from worker.service import (
    AgentRecord,
    AuditRecord,
    ListedKey,
    NewKey,
    OrganizationRecord,
    Role,
    UserRecord,
)

_ORGANIZATION_ID: Final = "org_01890a5d000070008000000000000006"
_USER_ID: Final = "usr_01890a5d000070008000000000000007"
_AGENT_ID: Final = "agt_01890a5d000070008000000000000004"
_KEY_ID: Final = "key_01890a5d000070008000000000000008"
_TIME: Final = "2026-01-31T12:00:00.123456Z"

#: A name that people can read: not only spaces.
_Name = Annotated[
    str, Field(min_length=1, max_length=100, pattern=r"\S"), AfterValidator(require_one_line)
]
_DispatchName = Annotated[
    str,
    Field(
        # Without a name LiveKit would send every call to every worker.
        # https://docs.livekit.io/agents/server/agent-dispatch/
        min_length=1,
        max_length=100,
        pattern=r"\S",
        description="The `agent_name` under which its workers register at LiveKit.",
    ),
    AfterValidator(require_one_line),
]
_EXTERNAL: Final = (
    "Your own id of it, unique in the organisation: wherever an id is asked for it will do as well."
)
_ExternalId = Annotated[str, Field(pattern=EXTERNAL_ID)]


def _either_case(name: str) -> AliasChoices:
    return AliasChoices(name, to_camel(name))


class _Body(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=AliasGenerator(validation_alias=_either_case),
        populate_by_name=True,
        hide_input_in_errors=True,
    )


def _example(**values: JsonValue) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [dict(values)]})


class OrganizationChange(_Body):
    """What of an organisation is to change."""

    name: _Name


class OrganizationOut(BaseModel):
    """An organisation."""

    id: str
    name: str
    created_at: Timestamp

    model_config = _example(id=_ORGANIZATION_ID, name="Acme", created_at=_TIME)

    @classmethod
    def from_record(cls, record: OrganizationRecord) -> Self:
        """Formats an organisation."""
        return cls(id=format_id("org", record.id), name=record.name, created_at=record.created_at)


class UserBody(_Body):
    """A person whom numbers can belong to."""

    name: _Name
    external_id: _ExternalId | None = Field(default=None, description=_EXTERNAL)


class UserChangeBody(_Body):
    """What of a user is to change: what is left out stays, null clears."""

    name: _Name = Field(default_factory=str)
    external_id: _ExternalId | None = Field(default=None, description=_EXTERNAL)


class UserOut(BaseModel):
    """A person whom numbers can belong to."""

    id: str
    name: str
    external_id: str | None
    created_at: Timestamp

    model_config = _example(id=_USER_ID, name="Ada", external_id="user-42", created_at=_TIME)

    @classmethod
    def from_record(cls, record: UserRecord) -> Self:
        """Formats a user."""
        return cls(
            id=format_id("usr", record.id),
            name=record.name,
            external_id=record.external_id,
            created_at=record.created_at,
        )


class UserPage(BaseModel):
    """Some users, newest first."""

    items: list[UserOut]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page.")


class AgentBody(_Body):
    """A voice agent that can answer numbers."""

    name: _Name
    dispatch_name: _DispatchName
    external_id: _ExternalId | None = Field(default=None, description=_EXTERNAL)


class AgentChangeBody(_Body):
    """What of an agent is to change: what is left out stays, null clears."""

    name: _Name = Field(default_factory=str)
    dispatch_name: _DispatchName = Field(default_factory=str)
    external_id: _ExternalId | None = Field(default=None, description=_EXTERNAL)


class AgentOut(BaseModel):
    """A voice agent that can answer numbers."""

    id: str
    name: str
    dispatch_name: str
    external_id: str | None
    created_at: Timestamp

    model_config = _example(
        id=_AGENT_ID,
        name="Front desk",
        dispatch_name="receptionist",
        external_id=None,
        created_at=_TIME,
    )

    @classmethod
    def from_record(cls, record: AgentRecord) -> Self:
        """Formats an agent."""
        return cls(
            id=format_id("agt", record.id),
            name=record.name,
            dispatch_name=record.dispatch_name,
            external_id=record.external_id,
            created_at=record.created_at,
        )


class AgentPage(BaseModel):
    """Some agents, newest first."""

    items: list[AgentOut]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page.")


class KeyBody(_Body):
    """An API key to be made."""

    name: _Name
    role: Role


class KeyOut(BaseModel):
    """An API key without its secret, which nothing keeps."""

    id: str
    name: str
    role: Role
    prefix: str = Field(description="What stands between `tl_` and the next underscore of the key.")
    created_at: Timestamp
    last_used_at: Timestamp | None = Field(description="To the minute.")
    revoked_at: Timestamp | None

    model_config = _example(
        id=_KEY_ID,
        name="Billing",
        role="viewer",
        prefix="abcdefghij",
        created_at=_TIME,
        last_used_at=None,
        revoked_at=None,
    )

    @classmethod
    def from_record(cls, record: ListedKey) -> Self:
        """Formats a key."""
        return cls(**_key_fields(record))


class NewKeyOut(KeyOut):
    """An API key that was made just now."""

    key: str = Field(description="The key itself: it is shown this once.")

    @classmethod
    def from_new(cls, new: NewKey) -> Self:
        """Formats a key at the only moment at which it is known."""
        return cls(**_key_fields(new.listed), key=new.key)


class KeyPage(BaseModel):
    """Some API keys, newest first."""

    items: list[KeyOut]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page.")


class AuditOut(BaseModel):
    """What somebody did."""

    id: str
    at: Timestamp
    actor: str = Field(description="The prefix of the API key, or `operator`.")
    action: str
    subject: str = Field(description="The id of what it was done to.")
    detail: dict[str, Any]

    model_config = _example(
        id="aud_00000000000000000000000000000001",
        at=_TIME,
        actor="abcdefghij",
        action="agent.create",
        subject=_AGENT_ID,
        detail={},
    )

    @classmethod
    def from_record(cls, record: AuditRecord) -> Self:
        """Formats an entry."""
        return cls(
            id=format_id("aud", record.id),
            at=record.at,
            actor=record.actor,
            action=record.action,
            subject=record.subject,
            detail=record.detail,
        )


class AuditPage(BaseModel):
    """Some entries of the audit log, newest first."""

    items: list[AuditOut]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page.")


def _key_fields(record: ListedKey) -> dict[str, Any]:
    return {
        "id": format_id("key", record.id),
        "name": record.name,
        "role": record.role,
        "prefix": record.prefix,
        "created_at": record.created_at,
        "last_used_at": record.last_used_at,
        "revoked_at": record.revoked_at,
    }
