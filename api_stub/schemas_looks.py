"""What the API answers after a look outside: preflight, diagnosis, the numbers of an account."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from api_stub.schemas import ErrorOut
from worker.domain.job import StepName
from worker.service import AccountNumber, Diagnosis, Preflight


class RefusalOut(ErrorOut):
    """Why an import would fail; the message says what to do."""

    step: StepName | None = Field(description="Where; null if at submit already.")


class FieldChangeOut(BaseModel):
    """One setting, as it is and as it would be."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    field: str
    before: str | None = Field(alias="from", description="null where there is nothing yet.")
    after: str | None = Field(alias="to")


class ChangeOut(BaseModel):
    """One thing outside that would be made or changed."""

    where: str = Field(description="The provider, or `livekit`.")
    object: str = Field(examples=["number", "livekit_inbound_trunk"])
    action: str = Field(description="`create` or `update`.")
    step: StepName
    fields: list[FieldChangeOut]


class PreflightOut(BaseModel):
    """What an import would do, and everything that would refuse it; nothing was changed."""

    importable: bool = Field(description="Whether nothing is known that would refuse it.")
    refusals: list[RefusalOut]
    warnings: list[str]
    changes: list[ChangeOut] = Field(
        description="In the order of an import. Queries of foreign URLs are left out; passwords, "
        "too."
    )

    @classmethod
    def from_record(cls, found: Preflight) -> Self:
        """Formats what a preflight found."""
        return cls(
            importable=not found.refusals,
            refusals=[
                RefusalOut(code=one.error.code, message=one.error.message, step=one.step)
                for one in found.refusals
            ],
            warnings=found.warnings,
            changes=[
                ChangeOut(
                    where=change.where,
                    object=change.object,
                    action=change.action,
                    step=change.step,
                    fields=[
                        FieldChangeOut(field=one.field, before=one.before, after=one.after)
                        for one in change.fields
                    ],
                )
                for change in found.changes
            ],
        )


class FindingOut(BaseModel):
    """One thing that is not as it was set."""

    code: str = Field(
        description="`missing`, `changed`, `elsewhere`, `shadowed`, or an error's code."
    )
    where: str = Field(description="The provider, `livekit`, or `callbacks`.")
    object: str
    field: str | None
    expected: str | None
    found: str | None
    affects: str = Field(description="`inbound`, `outbound`, `sms` or `status`.")
    sentence: str
    repairable: bool


class DiagnosisOut(BaseModel):
    """Whether calls arrive, and if not, why."""

    verdict: str = Field(description="`ok` or `drifted`.")
    summary: str
    findings: list[FindingOut]
    warnings: list[str]

    @classmethod
    def from_record(cls, diagnosis: Diagnosis) -> Self:
        """Formats a diagnosis."""
        return cls(**diagnosis.to_json())


class AccountNumberOut(BaseModel):
    """A number of a provider's account."""

    number_sid: str = Field(description="The provider's own id of the number.")
    phone_number: str
    country: str | None
    voice: bool
    sms: bool
    answered_by: str = Field(description="Where its calls go now, without a URL's query.")
    importable: bool = Field(description="Whether it can be imported as it is.")
    refusal: ErrorOut | None

    @classmethod
    def from_record(cls, one: AccountNumber) -> Self:
        """Formats a number of an account."""
        number, refusal = one.number, one.refusal
        return cls(
            number_sid=number.id,
            phone_number=number.phone_number,
            country=number.country,
            voice=number.voice,
            sms=number.sms,
            answered_by=str(number.target),
            importable=refusal is None,
            refusal=None
            if refusal is None
            else ErrorOut(code=refusal.code, message=refusal.message),
        )


class AccountNumberPage(BaseModel):
    """Some numbers of a provider's account."""

    items: list[AccountNumberOut]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page.")
