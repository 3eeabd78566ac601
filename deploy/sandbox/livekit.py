"""LiveKit SIP: Twirp with protobuf under /livekit; one project, as an open-source server behaves.

https://docs.livekit.io/sip/api/. The operations are in livekit_sip.py, what they refuse is in
livekit_rules.py, what becomes of a call in livekit_calls.py.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated, Any, Final

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import DecodeError, Message
from jwt.exceptions import PyJWTError
from livekit.api.access_token import TokenVerifier
from livekit.protocol import sip
from pydantic import BaseModel, ConfigDict, Field

from deploy.sandbox import livekit_sip as operations
from deploy.sandbox.livekit_calls import Dispatch, Invite, dispatch
from deploy.sandbox.livekit_rules import TwirpError
from deploy.sandbox.livekit_store import Project
from deploy.sandbox.vendor import Answer, Call, Incoming, fingerprint, json_answer, masked

_SERVICE: Final = "/twirp/livekit.SIP/"
_PROTOBUF: Final = "application/protobuf"

#: https://twitchtv.github.io/twirp/docs/spec_v7.html#error-codes; the first code of a status is
#: the one that a fault with this status gets.
_STATUS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "invalid_argument": 400,
        "malformed": 400,
        "unauthenticated": 401,
        "permission_denied": 403,
        "not_found": 404,
        "bad_route": 404,
        "deadline_exceeded": 408,
        "already_exists": 409,
        "failed_precondition": 412,
        "resource_exhausted": 429,
        "internal": 500,
        "unknown": 500,
        "unavailable": 503,
    }
)
_CODE: Final = {status: code for code, status in reversed(list(_STATUS.items()))}


class _Seed(BaseModel):
    """Objects are stored as they are, conflicts included: that is how a test makes one."""

    model_config = ConfigDict(extra="forbid")

    api_key: str | None = None
    #: The server wants 32 characters, and the SDK warns below that.
    api_secret: Annotated[str, Field(min_length=32)] | None = None
    #: The host of the project's SIP URI: calls to any other host go elsewhere.
    sip_host: str | None = None
    inbound_trunks: list[dict[str, object]] = []
    outbound_trunks: list[dict[str, object]] = []
    dispatch_rules: list[dict[str, object]] = []


class _RejectedError(Exception):
    """A request that does not get past the server's key check; answered in plain text."""


@dataclass(frozen=True, slots=True)
class _Method:
    operation: str
    request: type[Message]
    handler: Callable[[Project, Any], Message]
    write: bool = True


#: Every method that the SDK calls. The server has more: Get, the deprecated Create and List of
#: trunks of unknown direction, participants and transfers.
_METHODS: Final[Mapping[str, _Method]] = MappingProxyType(
    {
        "CreateSIPInboundTrunk": _Method(
            "livekit.create_sip_inbound_trunk",
            sip.CreateSIPInboundTrunkRequest,
            operations.create_inbound,
        ),
        "UpdateSIPInboundTrunk": _Method(
            "livekit.update_sip_inbound_trunk",
            sip.UpdateSIPInboundTrunkRequest,
            operations.update_inbound,
        ),
        "ListSIPInboundTrunk": _Method(
            "livekit.list_sip_inbound_trunk",
            sip.ListSIPInboundTrunkRequest,
            operations.list_inbound,
            write=False,
        ),
        "CreateSIPOutboundTrunk": _Method(
            "livekit.create_sip_outbound_trunk",
            sip.CreateSIPOutboundTrunkRequest,
            operations.create_outbound,
        ),
        "UpdateSIPOutboundTrunk": _Method(
            "livekit.update_sip_outbound_trunk",
            sip.UpdateSIPOutboundTrunkRequest,
            operations.update_outbound,
        ),
        "ListSIPOutboundTrunk": _Method(
            "livekit.list_sip_outbound_trunk",
            sip.ListSIPOutboundTrunkRequest,
            operations.list_outbound,
            write=False,
        ),
        "DeleteSIPTrunk": _Method(
            "livekit.delete_sip_trunk", sip.DeleteSIPTrunkRequest, operations.delete_trunk
        ),
        "CreateSIPDispatchRule": _Method(
            "livekit.create_sip_dispatch_rule",
            sip.CreateSIPDispatchRuleRequest,
            operations.create_rule,
        ),
        "UpdateSIPDispatchRule": _Method(
            "livekit.update_sip_dispatch_rule",
            sip.UpdateSIPDispatchRuleRequest,
            operations.update_rule,
        ),
        "ListSIPDispatchRule": _Method(
            "livekit.list_sip_dispatch_rule",
            sip.ListSIPDispatchRuleRequest,
            operations.list_rules,
            write=False,
        ),
        "DeleteSIPDispatchRule": _Method(
            "livekit.delete_sip_dispatch_rule",
            sip.DeleteSIPDispatchRuleRequest,
            operations.delete_rule,
        ),
    }
)


class LiveKit:
    """The vendor as the server sees it."""

    name = "livekit"
    mounts = ("livekit",)

    def __init__(self) -> None:
        self._secrets: dict[str, str] = {}
        self._project = Project()
        self.sip_host = "sandbox.sip.livekit.example"

    def understand(self, incoming: Incoming) -> Call:
        """Decodes the message; the token is checked when the call runs."""
        method = _METHODS.get(incoming.path.removeprefix(_SERVICE))
        account = _issuer(_bearer(incoming) or "")
        if method is None or incoming.method != "POST":
            message = f'no handler for path "{incoming.path}"'
            return Call(
                operation="livekit.unknown",
                write=False,
                account=account,
                fields=dict,
                run=lambda: self.error(HTTPStatus.NOT_FOUND, code="bad_route", message=message),
            )
        request = method.request()
        problem = _decode(request, incoming)
        return Call(
            operation=method.operation,
            write=method.write,
            account=account,
            fields=lambda: MessageToDict(request, preserving_proto_field_name=True),
            run=lambda: self._run(method, incoming, request, problem),
        )

    def error(self, status: int, *, code: int | str | None, message: str | None) -> Answer:
        """Twirp's error body."""
        code = code or _CODE.get(status, "unknown")
        return json_answer(status, {"code": code, "msg": message or f"scripted {code}"})

    def garbage(self) -> Answer:
        """Field number zero, which no protobuf parser takes."""
        return Answer(status=HTTPStatus.OK, body=b"\x00\x00\xff", content_type=_PROTOBUF)

    def state(self) -> dict[str, object]:
        """All objects, by id."""
        return {
            "api_keys": list(self._secrets),
            "inbound_trunks": _documents(self._project.inbound.items),
            "outbound_trunks": _documents(self._project.outbound.items),
            "dispatch_rules": _documents(self._project.rules.items),
        }

    def seed(self, document: object) -> None:
        """Adds a key and objects. Raises ValueError."""
        seed = _Seed.model_validate(document)
        if (seed.api_key is None) != (seed.api_secret is None):
            msg = "api_key and api_secret come together"
            raise ValueError(msg)
        if seed.api_key and seed.api_secret:
            self._secrets[seed.api_key] = seed.api_secret
        self.sip_host = (seed.sip_host or self.sip_host).lower()
        try:
            for item in seed.inbound_trunks:
                self._project.put_inbound(ParseDict(item, sip.SIPInboundTrunkInfo()))
            for item in seed.outbound_trunks:
                self._project.put_outbound(ParseDict(item, sip.SIPOutboundTrunkInfo()))
            for item in seed.dispatch_rules:
                self._project.put_rule(ParseDict(item, sip.SIPDispatchRuleInfo()))
        except (ParseError, TwirpError) as problem:
            raise ValueError(str(problem)) from problem

    def dispatch(self, invite: Invite) -> Dispatch:
        """Answers a call that reaches the project's SIP host."""
        return dispatch(self._project, invite)

    def edit(self, document: object) -> None:
        """Nothing: LiveKit's console does nothing that its API does not. Raises ValueError."""
        msg = f"nothing to edit at LiveKit: {document}"
        raise ValueError(msg)

    def _run(
        self, method: _Method, incoming: Incoming, request: Message, problem: TwirpError | None
    ) -> Answer:
        try:
            self._admit(incoming, problem)
            result = method.handler(self._project, request)
        except _RejectedError as rejection:
            return Answer(
                status=HTTPStatus.UNAUTHORIZED,
                body=str(rejection).encode(),
                content_type="text/plain",
            )
        except TwirpError as error:
            return self.error(_STATUS[error.code], code=error.code, message=error.message)
        return Answer(status=HTTPStatus.OK, body=result.SerializeToString(), content_type=_PROTOBUF)

    def _admit(self, incoming: Incoming, problem: TwirpError | None) -> None:
        """In the server's order: the token, the message, the grant. Raises."""
        is_admin = self._grants_admin(incoming)
        if problem is not None:
            raise problem
        if not is_admin:
            raise TwirpError("unauthenticated", "permissions denied")

    def _grants_admin(self, incoming: Incoming) -> bool:
        """Checks the token; says whether it may administer SIP. No token at all is not wrong.

        After pkg/service/auth.go: what is wrong with a token is said in plain text, token included.
        """
        if "Authorization" not in incoming.headers:
            return False
        token = _bearer(incoming)
        if token is None:
            raise _RejectedError("invalid authorization header. Must start with Bearer ")
        issuer = _issuer(token)
        if issuer is None:
            raise _RejectedError("invalid authorization token")
        secret = self._secrets.get(issuer)
        if secret is None:
            raise _RejectedError(f"invalid API key: {issuer}")
        try:
            claims = TokenVerifier(issuer, secret).verify(token)
        except PyJWTError as problem:
            raise _RejectedError(f"invalid token: {token}, error: {problem}") from problem
        return bool(claims.sip and claims.sip.admin)


def _decode(request: Message, incoming: Incoming) -> TwirpError | None:
    if incoming.headers.get("Content-Type") != _PROTOBUF:
        # The server also takes JSON, which no SDK sends.
        return TwirpError("bad_route", "unexpected Content-Type")
    try:
        request.ParseFromString(incoming.body)
    except DecodeError:
        return TwirpError("malformed", "the protobuf request could not be decoded")
    return None


def _bearer(incoming: Incoming) -> str | None:
    header = incoming.headers.get("Authorization", "")
    return header.removeprefix("Bearer ") if header.startswith("Bearer ") else None


def _issuer(token: str) -> str | None:
    """The key that a token claims to be signed with, unproven."""
    _, _, rest = token.partition(".")
    payload, _, _ = rest.partition(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (binascii.Error, ValueError):
        return None
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    return issuer if isinstance(issuer, str) else None


def _documents(items: Mapping[str, Message]) -> dict[str, object]:
    return {name: _document(item) for name, item in items.items()}


def _document(item: Message) -> object:
    fields = MessageToDict(item, preserving_proto_field_name=True)
    if "auth_password" in fields:
        fields["auth_fingerprint"] = fingerprint(fields.pop("auth_password"))
    return masked(fields)
