"""Every failure that Trunkline names, as one tree.

TrunklineError
├── TransientError              trying again later may help
│   ├── ProviderUnavailable     provider_unavailable
│   │   └── NotSettled          a write may still land: wait, then look again
│   ├── ProviderRateLimited     provider_rate_limited
│   ├── RateLimited             rate_limited: the caller's own requests to us
│   ├── LiveKitUnavailable      livekit_unavailable
│   └── CallbacksUnreachable    callbacks_unreachable: our own public URL
├── PermanentError              trying again changes nothing until somebody acts
│   ├── InvalidRequest          invalid_request
│   │   └── SipLoginIncomplete  a SIP trunk's login by halves
│   ├── ...                     one class a code, below
│   └── InternalError           internal_error: a bug of ours
└── LeaseLost                   this worker was given up for dead; its successor owns the job

A class carries the code, the HTTP status and a sentence that tells the customer what to do. A
detail given to the constructor replaces the sentence and must be as fit for the customer: no vendor
body, no secret. What an error knows lives in ``args`` and ``__dict__``, so it survives pickling.
"""

from __future__ import annotations

from typing import ClassVar, Final


class TrunklineError(Exception):
    """The root: a stable code, an HTTP status and a sentence for the customer."""

    code: ClassVar[str]
    status: ClassVar[int]
    sentence: ClassVar[str]

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)

    @property
    def message(self) -> str:
        """What happened and what to do, fit for the customer."""
        return str(self.args[0]) if self.args and self.args[0] else self.sentence

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def __repr__(self) -> str:
        # What Celery tells Flower of a failed task: the code that callers get, too.
        return str(self)


class TransientError(TrunklineError):
    """Trying again later may help; the step's policy says how often, a vendor's Retry-After when.

    ``outcome_unknown`` marks a write whose answer was lost: it may be applied, or may yet be.
    """

    def __init__(
        self, detail: str = "", *, retry_after: float | None = None, outcome_unknown: bool = False
    ) -> None:
        super().__init__(detail)
        #: Seconds that the vendor asked us to wait, if it said so.
        self.retry_after = retry_after
        self.outcome_unknown = outcome_unknown


class PermanentError(TrunklineError):
    """Trying again changes nothing until somebody acts."""


class LeaseLost(TrunklineError):
    """The lease ran out under the worker that held it: its successor owns the job now."""

    code = "lease_lost"
    status = 500
    sentence = "Another worker has taken this step over; nothing needs to be done."


class ProviderUnavailable(TransientError):
    """The provider answered 5xx, garbage, or not at all."""

    code = "provider_unavailable"
    status = 503
    sentence = (
        "The provider cannot be reached right now. Nothing was changed for good; try again later."
    )


class NotSettled(ProviderUnavailable):
    """A write was sent whose answer never came: it may land late, so look again after a while."""

    sentence = "The provider has not confirmed a change yet; it is being checked again."


class ProviderRateLimited(TransientError):
    """The provider asks this account to slow down; every job of the account waits."""

    code = "provider_rate_limited"
    status = 429
    sentence = "The provider is limiting this account's requests. Wait a little and try again."


class RateLimited(TransientError):
    """An API key sends more requests than the operator allows it."""

    code = "rate_limited"
    status = 429
    sentence = (
        "This API key sends too many requests. Wait as long as the Retry-After header says; send "
        "many numbers at once with one POST /v1/batches."
    )


class LiveKitUnavailable(TransientError):
    """LiveKit answered 5xx, garbage, or not at all."""

    code = "livekit_unavailable"
    status = 503
    sentence = "LiveKit cannot be reached right now. Nothing was changed for good; try again later."


class CallbacksUnreachable(TransientError):
    """Our own public callback URL does not lead to this deployment."""

    code = "callbacks_unreachable"
    status = 502
    sentence = (
        "Our public callback URL does not answer, so calls would not either. The operator must "
        "check TRUNKLINE_PUBLIC_BASE_URL and what stands before the API."
    )


class InvalidRequest(PermanentError):
    """A field is missing, unknown or malformed."""

    code = "invalid_request"
    status = 400
    sentence = "The request is not valid."


class SipLoginIncomplete(InvalidRequest):
    """Of address, user name and password of a SIP trunk one is missing."""

    sentence = "Give sip.address with sip.username and sip.password."


class PayloadTooLarge(PermanentError):
    """The body is larger than 64 KiB."""

    code = "payload_too_large"
    status = 413
    sentence = "The request body is too large."


class Unauthenticated(PermanentError):
    """No API key, or one that is unknown or revoked."""

    code = "unauthenticated"
    status = 401
    sentence = "Send a valid API key as `Authorization: Bearer KEY` or `X-Api-Key: KEY`."


class Forbidden(PermanentError):
    """The key's role lacks the permission."""

    code = "forbidden"
    status = 403
    sentence = (
        "This API key's role does not allow that. Use a key with the role admin or agent_manager."
    )


class InvalidSignature(PermanentError):
    """A webhook request that its provider has not signed, or not for this number."""

    code = "invalid_signature"
    status = 403
    sentence = "The webhook's signature is missing or wrong, or the number is not known here."


class NotFound(PermanentError):
    """Nothing of that id belongs to the caller's organisation."""

    code = "not_found"
    status = 404
    sentence = "There is no such object in this organisation."


class IdempotencyKeyReused(PermanentError):
    """The same key came with another body."""

    code = "idempotency_key_reused"
    status = 422
    sentence = (
        "This Idempotency-Key was used with a different body. Use a new key for a new request."
    )


class InvalidState(PermanentError):
    """The job's state does not allow the request."""

    code = "invalid_state"
    status = 409
    sentence = "The import is not in a state that allows this."


class InvalidPhoneNumber(PermanentError):
    """The number is not E.164."""

    code = "invalid_phone_number"
    status = 400
    sentence = (
        "Give the phone number in E.164 format: a plus sign, the country code and the "
        "number, digits only, such as +14155550100."
    )


class InvalidCredentials(PermanentError):
    """The provider does not accept the credentials."""

    code = "invalid_credentials"
    status = 401
    sentence = (
        "The provider rejected these credentials. Check them, without spaces, and that they "
        "belong together."
    )


class InsufficientPermission(PermanentError):
    """The credentials are genuine but restricted."""

    code = "insufficient_permission"
    status = 403
    sentence = (
        "These credentials are valid but may not do this. Use the account's main credentials "
        "or widen the key's permissions."
    )


class SignaturesUnverifiable(PermanentError):
    """Webhook signatures could never be checked with what the import brings."""

    code = "signatures_unverifiable"
    status = 400
    sentence = (
        "Calls to this number could never be verified with these credentials. Add the account's "
        "auth token (Twilio) or public key (Telnyx), or use routing_mode sip_trunk."
    )


class AccountSuspended(PermanentError):
    """The provider account is not active."""

    code = "account_suspended"
    status = 403
    sentence = (
        "The provider account is suspended or closed. Reactivate it at the provider, then "
        "import again."
    )


class NumberNotOwned(PermanentError):
    """Looked up and absent from the account."""

    code = "number_not_owned"
    status = 404
    sentence = (
        "The provider account does not own this number. Check the number, and that the "
        "credentials are of the account that holds it."
    )


class NumberNotVoiceCapable(PermanentError):
    """The number has no voice capability."""

    code = "number_not_voice_capable"
    status = 422
    sentence = "This number cannot take voice calls. Import a number with voice capability."


class NumberNotActive(PermanentError):
    """The number is porting, pending or inactive."""

    code = "number_not_active"
    status = 409
    sentence = (
        "The number is not active at the provider yet (it may be porting or awaiting "
        "approval). Import it once it is."
    )


class NumberInUse(PermanentError):
    """The number routes to something foreign."""

    code = "number_in_use"
    status = 409
    sentence = (
        "Calls to this number already go elsewhere. Send replace_existing_routing: true to "
        "replace that; the present routing is kept and put back on release."
    )


class NumberAlreadyImported(PermanentError):
    """The number is active or in flight."""

    code = "number_already_imported"
    status = 409
    sentence = (
        "This number is already imported, or its import is under way. Release it first, or "
        "follow the import that is running."
    )


class NumberBusy(PermanentError):
    """Another job works on the number."""

    code = "number_busy"
    status = 409
    sentence = "Another change of this number is under way. Try again once it has ended."


class AgentNotFound(PermanentError):
    """The agent does not exist."""

    code = "agent_not_found"
    status = 404
    sentence = "There is no agent with this agent_id."


class AgentNotOwned(PermanentError):
    """The agent is another organisation's."""

    code = "agent_not_owned"
    status = 403
    sentence = "This agent belongs to somebody else."


class AgentInUse(PermanentError):
    """The agent cannot be deleted yet."""

    code = "agent_in_use"
    status = 409
    sentence = (
        "Numbers or running imports still name this agent, as their agent or as their fallback. "
        "Give them another one or release them first."
    )


class UserNotFound(PermanentError):
    """The user does not exist in this organisation."""

    code = "user_not_found"
    status = 404
    sentence = "There is no user with this user_id."


class UserInUse(PermanentError):
    """The user cannot be deleted yet."""

    code = "user_in_use"
    status = 409
    sentence = "Numbers or running imports still belong to this user. Release them first."


class CredentialNotFound(PermanentError):
    """The stored credential does not exist."""

    code = "credential_not_found"
    status = 404
    sentence = "There is no stored credential with this credential_id."


class CredentialNotOwned(PermanentError):
    """The stored credential is another organisation's."""

    code = "credential_not_owned"
    status = 403
    sentence = "This credential belongs to another organisation."


class CredentialInUse(PermanentError):
    """The credential cannot be deleted yet."""

    code = "credential_in_use"
    status = 409
    sentence = "Numbers or running imports still use this credential. Release them first."


class ExternalIdTaken(PermanentError):
    """Another object of the kind has this external id."""

    code = "external_id_taken"
    status = 409
    sentence = (
        "Another object of this kind in this organisation has this external_id. Give another one, "
        "or clear that one's first."
    )


class LastAdminKey(PermanentError):
    """Without this key nobody could make another one."""

    code = "last_admin_key"
    status = 409
    sentence = (
        "This is the organisation's last API key with the role admin. Make another one before you "
        "revoke it."
    )


class TrunkConflict(PermanentError):
    """A foreign LiveKit object claims the number."""

    code = "trunk_conflict"
    status = 409
    sentence = (
        "LiveKit already has a trunk or dispatch rule for this number that is not ours. "
        "Remove it there, then import again."
    )


class SipTrunkProvisionFailed(PermanentError):
    """The provider or LiveKit refused the trunk."""

    code = "sip_trunk_provision_failed"
    status = 422
    sentence = (
        "The SIP trunk could not be created. Check the SIP settings and that the account may "
        "use SIP trunking."
    )


class WebhookSetupFailed(PermanentError):
    """The provider refused the webhook settings."""

    code = "webhook_setup_failed"
    status = 502
    sentence = (
        "The number's webhooks could not be set at the provider. Check that the account may "
        "change this number."
    )


class LiveKitMisconfigured(PermanentError):
    """LiveKit refuses our key or does not know the route."""

    code = "livekit_misconfigured"
    status = 500
    sentence = (
        "The platform's LiveKit settings are wrong. The operator must check LIVEKIT_URL, "
        "LIVEKIT_API_KEY and LIVEKIT_API_SECRET."
    )


class UndoFailed(PermanentError):
    """Undo gave up; the job is stuck."""

    code = "undo_failed"
    status = 500
    sentence = (
        "The import failed and could not be undone completely. An operator has been told "
        "what is left where."
    )


class InternalError(PermanentError):
    """A bug: neither transient nor a named refusal."""

    code = "internal_error"
    status = 500
    sentence = (
        "Something went wrong on our side. Nothing is left half-done; the operators have been told."
    )


def _leaves(root: type[TrunklineError]) -> list[type[TrunklineError]]:
    """Every class below root that has a code of its own."""
    found = [] if "code" not in vars(root) else [root]
    for child in root.__subclasses__():
        found += _leaves(child)
    return found


#: Error code → the class that carries it; NotSettled shares its parent's.
BY_CODE: Final = {error.code: error for error in _leaves(TrunklineError)}
assert len(BY_CODE) == len(_leaves(TrunklineError)), "two errors share a code"


def from_code(code: str, message: str) -> TrunklineError:
    """Rebuilds the error that a job recorded; an unknown code is an internal error."""
    return BY_CODE.get(code, InternalError)(message)
