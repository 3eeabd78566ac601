"""The OpenAPI document against the running API: what it says is what is answered.

Requests are made of the document alone, by https://schemathesis.readthedocs.io: those that fit it,
and those that just do not. ``TRUNKLINE_SCHEMATHESIS_EXAMPLES`` is how many there are of each kind
for each operation, besides those that go through every boundary of every field.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Iterator
from typing import Any, Final, cast

import pytest
import requests
import schemathesis
from schemathesis import Case
from schemathesis.checks import CheckFunction
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from api_stub.app import build
from tests.contract.api.existing import Existing
from tests.rig import FAST, Rig, running
from worker.service import Service

_EXAMPLES: Final = int(os.environ.get("TRUNKLINE_SCHEMATHESIS_EXAMPLES", "5"))
#: A schema cannot say which cursors were given out, which country has such a number, or which of a
#: provider's credentials belong together: a request that fits it may be refused, as a 400.
_NOT_ASKED: Final[list[CheckFunction]] = [positive_data_acceptance]
_DIALECTS: Final = "/dialects/"
_LONGEST_WAIT_SECONDS: Final = 1
#: So that answers tell how jobs end; ignored where there is none. What is generated almost never
#: asks for it.
_PREFER: Final = f"wait={_LONGEST_WAIT_SECONDS}"
_TIMEOUT_SECONDS: Final = 30


def _said() -> dict[str, Any]:
    return build(cast("Service", object()), threads=1).openapi()


def _document() -> dict[str, Any]:
    """The document without the answers that stand for any other status."""
    found = copy.deepcopy(_said())
    for path, operations in found["paths"].items():
        # The dialects' contracts list few statuses; there `default` is where the others are.
        if not path.startswith(_DIALECTS):
            for operation in operations.values():
                operation["responses"].pop("default", None)
    return found


def _schema(mode: str, *, without: Collection[str] = ()) -> schemathesis.BaseSchema:
    generation = {
        "mode": mode,
        "deterministic": True,
        "max-examples": _EXAMPLES,
        # A failure is shown as it came: to make it smaller takes hundreds of requests.
        "no-shrink": True,
        # The key is ours to send. That nothing is answered without one is a check of its own.
        "with-security-parameters": False,
    }
    config = SchemathesisConfig.from_dict({"generation": generation})
    document = _document()
    for operations in document["paths"].values():
        for operation in operations.values():
            given = operation.get("parameters", [])
            operation["parameters"] = [one for one in given if one["name"] not in without]
    return schemathesis.openapi.from_dict(document, config=config)


_ANY: Final = _schema("all")
_FITTING: Final = _schema("positive", without={"Prefer"})


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    # A dialect waits for its import before it answers.
    wait = {"TRUNKLINE_DIALECT_WAIT_SECONDS": str(_LONGEST_WAIT_SECONDS)}
    with running(without={"flower"}, env={**FAST, **wait}) as started:
        yield started


@pytest.fixture(scope="module")
def existing(rig: Rig) -> Existing:
    return Existing(rig)


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def _check(case: Case[Any], rig: Rig, session: requests.Session) -> None:
    excluded = [*_NOT_ASKED]
    if case.operation.label == "POST /v1/batches":
        # A wrong item does not make a wrong batch: it is refused alone, in a 202.
        excluded.append(negative_data_rejection)
    case.call_and_validate(
        base_url=rig.stack.api_url,
        session=session,
        headers={"Authorization": rig.api.headers["Authorization"]},
        excluded_checks=excluded,
        timeout=_TIMEOUT_SECONDS,
    )


def test_the_api_serves_this_document(rig: Rig) -> None:
    served = rig.api.get("/openapi.json").json()

    assert served == _said()


def test_no_operation_is_left_out(request: pytest.FixtureRequest) -> None:
    ids = [item.nodeid for item in request.session.items]

    assert len(set(ids)) == len(ids)


@_ANY.parametrize()
def test_every_answer_is_as_documented(
    case: Case[Any], rig: Rig, session: requests.Session
) -> None:
    _check(case, rig, session)


# Callbacks are for the providers: without a signature every number answers them alike, 403.
@_FITTING.include(path_regex=r"^/v1/.*{").parametrize()
def test_every_answer_about_what_exists_is_as_documented(
    case: Case[Any], rig: Rig, existing: Existing, session: requests.Session
) -> None:
    existing.name(case)
    wait = case.query.get("wait")
    if isinstance(wait, int):
        case.query["wait"] = min(wait, _LONGEST_WAIT_SECONDS)
    case.headers["Prefer"] = _PREFER
    _check(case, rig, session)


@_FITTING.include(path=["/v1/imports", "/v1/imports/preflight"], method="POST").parametrize()
def test_every_answer_to_an_import_that_can_be_done_is_as_documented(
    case: Case[Any], rig: Rig, existing: Existing, session: requests.Session
) -> None:
    existing.fill(case)
    case.headers["Prefer"] = _PREFER
    _check(case, rig, session)
