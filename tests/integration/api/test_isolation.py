"""Another organisation's ids, at every route and in every place that takes one.

Made from the app's own OpenAPI document: a route, a query parameter or a field of a body that could
name an object and has no case here fails the test. An answer about somebody else's object must be,
word for word, the one about an object that does not exist; the only exceptions are those that
published contracts name.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from tests.integration.api.conftest import SID, TOKEN, Platform, Tenant, new_number, new_request
from tests.integration.api.lines import FORM, sign
from worker.service import Role

#: Path parameter → what it names.
PATH_PARAMETERS: Final = {
    "import_id": "imp",
    "number_id": "num",
    "credential_id": "cred",
    "batch_id": "bat",
    "agent_id": "agt",
    "user_id": "usr",
    "key_id": "key",
    "organization_id": "org",
}
#: Path parameters that name nothing of anybody's.
PLAIN_PARAMETERS: Final = {"provider", "kind"}
#: Query parameter → what it may name; a cursor names what the list holds.
QUERY_PARAMETERS: Final = {"batch": ("bat",), "subject": ("imp", "num", "cred", "key", "agt")}
PLAIN_QUERIES: Final = {
    *("limit", "kind", "status", "provider", "wait", "repair", "action"),
    *("phone_number", "cursor"),  # with cases of their own, below
}
CURSORS: Final = {
    "/v1/imports": "imp",
    "/v1/phone-numbers": "num",
    "/v1/credentials": "cred",
    "/v1/batches": "bat",
    "/v1/agents": "agt",
    "/v1/users": "usr",
    "/v1/api-keys": "key",
    "/v1/audit": "aud",
}
#: Field of a body that names an object → what it names, by route.
_IMPORT: Final = {
    "agent_id": "agt",
    "user_id": "usr",
    "credential_id": "cred",
    "inbound.fallback_agent_id": "agt",
}
FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "POST /v1/imports": _IMPORT,
    "POST /v1/imports/preflight": _IMPORT,
    "POST /v1/batches": {
        **{f"defaults.{name}": kind for name, kind in _IMPORT.items()},
        **{f"items.{name}": kind for name, kind in _IMPORT.items()},
    },
    "PATCH /v1/phone-numbers/{number_id}": {"agent_id": "agt", "inbound.fallback_agent_id": "agt"},
    "POST /dialects/butter/api/phone-numbers": {"integration_id": "cred"},
    "POST /dialects/weya/api/call/add-phone": {"userId": "usr"},
    "POST /dialects/nixflex/v1/phone-numbers": {"agent_id": "agt"},
    "POST /dialects/oneinbox/v1/phone-numbers": {
        "agent_id": "agt",
        "credential_id": "cred",
        "inbound_routing.agent_id": "agt",
        "inbound_routing.fallback.agent_id": "agt",
    },
}
#: Fields that give an object an id of its owner's own, or a vendor's; they name nothing here.
OWN_IDS: Final = {"external_id", "accSId"}
#: What published contracts tell of others' objects (Butter: 403 "Integration belongs to different
#: organization"; Nixflex: agent_not_owned), and the rest with them: agents and credentials alone.
TOLD: Final = {
    "agt": (
        ("agent_not_found", "agent_not_owned"),
        ("AGENT_NOT_FOUND", "AGENT_NOT_OWNED"),
    ),
    "cred": (
        ("credential_not_found", "credential_not_owned"),
        ("CREDENTIAL_NOT_FOUND", "CREDENTIAL_NOT_OWNED"),
        ("There is no integration", "This integration belongs to another organisation"),
    ),
}
TABLES: Final = (
    *("import_jobs", "phone_numbers", "credentials", "batches", "agents", "users", "api_keys"),
    *("audit_log", "organizations"),
)
Answer = tuple[int, str]


@dataclass(frozen=True, kw_only=True)
class Victim:
    """An organisation with one of everything."""

    tenant: Tenant
    #: What an id names → it, of theirs.
    ids: Mapping[str, str]
    number: str


@pytest.fixture(scope="module")
def victim(platform: Platform) -> Victim:
    tenant = platform.tenant()

    def make(path: str, body: Mapping[str, Any]) -> str:
        answer = tenant.http.post(path, json=body)
        assert answer.is_success, answer.text
        made: str = answer.json()["id"]
        return made

    agent = make("/v1/agents", {"name": "a", "dispatch_name": "a", "external_id": "front"})
    user = make("/v1/users", {"name": "u", "external_id": "ada"})
    request = new_request(agent_id=agent, user_id=user)
    imported = make("/v1/imports", request)
    platform.finish_all(imported)
    item = {**new_request(), "agent_id": agent}
    listed = tenant.http.get("/v1/audit").json()["items"]
    return Victim(
        tenant=tenant,
        number=request["phone_number"],
        ids={
            "imp": imported,
            "num": tenant.http.get(f"/v1/imports/{imported}").json()["phone_number_id"],
            "cred": tenant.store(),
            "bat": make("/v1/batches", {"items": [item]}),
            "agt": agent,
            "usr": user,
            "key": tenant.http.get("/v1/api-keys").json()["items"][0]["id"],
            "org": tenant.organization_id,
            "aud": listed[0]["id"],
        },
    )


@dataclass(frozen=True, kw_only=True)
class Attacker:
    tenant: Tenant
    #: The tenant's own active number, which a PATCH may change.
    own_number: str
    clients: Mapping[Role, tuple[str, httpx.Client]]


@pytest.fixture(scope="module")
def attacker(platform: Platform) -> Attacker:
    tenant = platform.tenant()
    own = tenant.submit()["id"]
    platform.finish_all(own)
    return Attacker(
        tenant=tenant,
        own_number=tenant.http.get(f"/v1/imports/{own}").json()["phone_number_id"],
        clients={role: tenant.add_key(role) for role in Role},
    )


def unknown(kind: str) -> str:
    return f"{kind}_{uuid4().hex}"


def state(platform: Platform, victim: Victim) -> dict[str, str]:
    """Everything that is stored of the victim, but when its keys were used."""
    found = {}
    for table in TABLES:
        column = "id" if table == "organizations" else "organization_id"
        rows = platform.sql(
            f"SELECT (to_jsonb(t) - 'last_used_at')::text FROM {table} t "  # noqa: S608 -- ours
            f"WHERE {column} = :id ORDER BY 1",
            id=victim.tenant.uuid,
        )
        assert rows, table
        found[table] = str(rows)
    return found


@pytest.fixture(autouse=True, scope="module")
def _nothing_of_the_victim_changed(platform: Platform, victim: Victim) -> Iterator[None]:
    before = state(platform, victim)
    yield
    assert state(platform, victim) == before


# Every route


def document(platform: Platform) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{platform.url}/openapi.json", trust_env=False).json()
    return found


def operations(platform: Platform) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document(platform)["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_every_place_that_may_name_an_object_has_a_case(platform: Platform) -> None:
    schemas = document(platform)["components"]["schemas"]
    cursors = set()
    fields = {}
    for method, path, operation in operations(platform):
        for one in operation.get("parameters", []):
            if one["in"] == "path":
                assert one["name"] in PATH_PARAMETERS.keys() | PLAIN_PARAMETERS, (path, one["name"])
            if one["in"] == "query":
                assert one["name"] in QUERY_PARAMETERS.keys() | PLAIN_QUERIES, (path, one["name"])
                if one["name"] == "cursor" and "{" not in path:
                    cursors.add(path)
        for content in operation.get("requestBody", {}).get("content", {}).values():
            named = set(_names(content["schema"], schemas, "")) - OWN_IDS
            if named:
                fields[f"{method} {path}"] = named
    assert cursors == CURSORS.keys()
    # A batch's defaults are whatever its items may have: the document does not repeat it.
    assert fields == {
        route: {name for name in names if not name.startswith("defaults.")}
        for route, names in FIELDS.items()
    }


def _names(schema: Any, schemas: Mapping[str, Any], inside: str) -> Iterator[str]:
    """The fields of a body, however deep, whose name ends like that of an id."""
    if "$ref" in schema:
        yield from _names(schemas[schema["$ref"].rpartition("/")[2]], schemas, inside)
    for more in (*schema.get("anyOf", ()), *schema.get("allOf", ())):
        yield from _names(more, schemas, inside)
    if "items" in schema:
        yield from _names(schema["items"], schemas, inside)
    for name, one in schema.get("properties", {}).items():
        place = f"{inside}{name}"
        if re.search(r"(_id|Id)s?$", name):
            yield place
        yield from _names(one, schemas, f"{place}.")


ROUTES: Final = [
    (method, path)
    for method, path in (
        *(("GET", path) for path in ("/v1/imports/{import_id}", "/v1/imports/{import_id}?wait=5")),
        ("POST", "/v1/imports/{import_id}/cancel"),
        ("POST", "/v1/imports/{import_id}/retry"),
        *((method, "/v1/phone-numbers/{number_id}") for method in ("GET", "PATCH", "DELETE")),
        ("POST", "/v1/phone-numbers/{number_id}/check"),
        ("POST", "/v1/phone-numbers/{number_id}/check?repair=true"),
        ("GET", "/v1/phone-numbers/{number_id}/events"),
        *((method, "/v1/credentials/{credential_id}") for method in ("GET", "PATCH", "DELETE")),
        ("GET", "/v1/credentials/{credential_id}/numbers"),
        ("GET", "/v1/batches/{batch_id}"),
        ("GET", "/v1/batches/{batch_id}?status=refused&cursor=1"),
        ("POST", "/v1/batches/{batch_id}/cancel"),
        *((method, "/v1/agents/{agent_id}") for method in ("GET", "PATCH", "DELETE")),
        *((method, "/v1/users/{user_id}") for method in ("GET", "PATCH", "DELETE")),
        ("DELETE", "/v1/api-keys/{key_id}"),
        *((method, "/v1/organizations/{organization_id}") for method in ("GET", "PATCH")),
        ("POST", "/callbacks/{provider}/{kind}/{number_id}"),
    )
]
PATCHES: Final = {
    "/v1/phone-numbers/{number_id}": {"friendly_name": "stolen"},
    "/v1/credentials/{credential_id}": {"label": "stolen"},
    "/v1/agents/{agent_id}": {"name": "stolen"},
    "/v1/users/{user_id}": {"name": "stolen"},
    "/v1/organizations/{organization_id}": {"name": "stolen"},
}


def test_every_route_with_an_id_in_its_path_has_a_case(platform: Platform) -> None:
    with_ids = {(m, path) for m, path, _ in operations(platform) if "{" in path}
    assert with_ids == {(method, path.partition("?")[0]) for method, path in ROUTES}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_an_object_of_others_looks_as_if_there_were_none(
    victim: Victim, attacker: Attacker, method: str, path: str, role: Role
) -> None:
    parameter = re.findall(r"{([a-z_]+)}", path)[-1]
    kind = PATH_PARAMETERS[parameter]
    _, client = attacker.clients[role]

    def ask(name: str) -> Answer:
        real = path.replace(f"{{{parameter}}}", name)
        real = real.replace("{provider}", "twilio").replace("{kind}", "voice")
        headers = {"If-None-Match": f'W/"{_version(victim)}", *'}
        body = None if method != "PATCH" else PATCHES[path]
        content = None
        if path.startswith("/callbacks"):
            content = b"CallSid=CA1"
            url = f"https://voice.trunkline.example{real}"
            headers |= {"Content-Type": FORM, **sign("twilio", url, content, secret=TOKEN + "x")}
        begun = time.monotonic()
        answer = client.request(method, real, json=body, content=content, headers=headers)
        assert time.monotonic() - begun < 4, "it waited for somebody else's import"
        return _said(answer, name)

    theirs, nobodys = ask(victim.ids[kind]), ask(unknown(kind))

    assert theirs[0] in (403, 404), theirs
    assert _told(theirs, nobodys, kind), (theirs, nobodys)
    # And by the UUID alone, wherever that is an id as well.
    uuid = victim.ids[kind].partition("_")[2]
    assert ask(uuid)[0] in (403, 404)


def _version(victim: Victim) -> str:
    tag: str = victim.tenant.http.get(f"/v1/imports/{victim.ids['imp']}").headers["ETag"]
    return tag.removeprefix('W/"').removesuffix('"')


def _said(answer: httpx.Response, name: str) -> Answer:
    """Status, body and headers, without the id that was asked for and what differs every time."""
    headers = {
        header: value
        for header, value in answer.headers.items()
        if header not in ("date", "x-request-id", "ratelimit", "content-length")
    }
    text = f"{answer.text} {json.dumps(headers, sort_keys=True)}"
    for spelled in (name, name.partition("_")[2]):
        text = text.replace(spelled, "ID") if spelled else text
    return answer.status_code, text


def _told(theirs: Answer, nobodys: Answer, kind: str) -> bool:
    """Whether nothing differs but what a published contract tells."""
    if theirs == nobodys:
        return True
    return any(absent in nobodys[1] and told in theirs[1] for absent, told in TOLD.get(kind, ()))


# Ids in queries


@pytest.mark.parametrize("role", Role)
def test_a_query_for_what_others_have_finds_nothing(
    victim: Victim, attacker: Attacker, role: Role
) -> None:
    _, client = attacker.clients[role]
    batch = {"batch": victim.ids["bat"]}
    assert client.get("/v1/imports", params=batch).json()["items"] == []
    counts = client.get("/v1/imports/counts").json()
    # The attacker's own import is active; of the victim's two, one is open.
    assert set(counts["open"].values()) == {0}
    assert sum(counts["ended"].values()) == 1
    number = {"phone_number": victim.number}
    assert client.get("/v1/imports", params=number).json()["items"] == []
    if role is Role.ADMIN:
        for kind in QUERY_PARAMETERS["subject"]:
            found = client.get("/v1/audit", params={"subject": victim.ids[kind]}).json()
            assert found["items"] == [], kind


@pytest.mark.parametrize("path", CURSORS)
def test_a_cursor_of_others_leads_into_nothing_of_theirs(
    platform: Platform, victim: Victim, attacker: Attacker, path: str
) -> None:
    # From the very end of time, too: the oldest ids and the newest.
    kind = CURSORS[path]
    for cursor in (victim.ids[kind], f"{kind}_{'f' * 32}", f"{kind}_{'0' * 32}"):
        answer = attacker.tenant.http.get(path, params={"cursor": cursor, "limit": 200})
        assert answer.status_code == 200, answer.text
        _holds_nothing_of(victim, answer.text)
    # And what the lists hold without one.
    _holds_nothing_of(victim, attacker.tenant.http.get(path, params={"limit": 200}).text)
    del platform


def _holds_nothing_of(victim: Victim, text: str) -> None:
    for name in victim.ids.values():
        assert name not in text
    assert victim.number not in text


# Ids in bodies


def body_with(route: str, place: str, value: str, attacker: Attacker) -> tuple[str, Any]:
    """The path and a body that is right in all but one field."""
    path = route.partition(" ")[2]
    if path.startswith("/v1/imports"):
        return path, _put(new_request(), place, value)
    if path == "/v1/batches":
        part, _, rest = place.partition(".")
        if part == "items":
            return path, {"items": [_put(new_request(), rest, value)]}
        # The row has no account of its own, or it would count and not the defaults'.
        number = {"phone_number": new_number(), "provider": "twilio"}
        account = {} if rest == "credential_id" else {"credentials": new_request()["credentials"]}
        return path, {"defaults": _put(account, rest, value), "items": [number]}
    if path.startswith("/v1/phone-numbers"):
        return path.replace("{number_id}", attacker.own_number), _put({}, place, value)
    return path, _of_dialect(path, place, value)


def _of_dialect(path: str, place: str, value: str) -> dict[str, Any]:
    number, uuid = new_number(), value.partition("_")[2]
    if "butter" in path:
        named = {"integration_id": f"intg_{uuid}"}
        return {"phone_number": number, "provider": "twilio", **named}
    if "weya" in path:
        account = {"integration": "twilio", "authToken": TOKEN, "accSId": SID}
        return {"userId": value, "phoneNumber": number, **account}
    if "nixflex" in path:
        login = {"twilio_sid": SID, "twilio_token": TOKEN}
        return {"phone_number": number, "agent_id": f"agent_{uuid}", **login}
    return _oneinbox(place, uuid)


def _oneinbox(place: str, uuid: str) -> dict[str, Any]:
    body = {"phone_number": new_number(), "provider": "twilio", "agent_id": str(uuid4())}
    if place.startswith("inbound_routing.fallback"):
        body = _put(body, "inbound_routing.agent_id", str(uuid4()))
    return _put(body, place, uuid)


def _put(body: Mapping[str, Any], place: str, value: str) -> dict[str, Any]:
    name, dot, rest = place.partition(".")
    changed = dict(body)
    changed[name] = _put(changed.get(name) or {}, rest, value) if dot else value
    if name == "credential_id":
        changed.pop("credentials", None)
    return changed


@pytest.mark.parametrize(
    ("route", "place"), [(route, place) for route, names in FIELDS.items() for place in names]
)
def test_an_object_of_others_cannot_be_named_in_a_body(
    platform: Platform, victim: Victim, attacker: Attacker, route: str, place: str
) -> None:
    for role in (Role.ADMIN, Role.AGENT_MANAGER):
        _cannot_be_named(platform, victim, attacker, role, (route, place))


def _cannot_be_named(
    platform: Platform, victim: Victim, attacker: Attacker, role: Role, where: tuple[str, str]
) -> None:
    route, place = where
    kind = FIELDS[route][place]
    key, _ = attacker.clients[role]
    headers = {"Authorization": f"Bearer {key}"}
    if "butter" in route:
        headers |= {"X-Organization-Id": attacker.tenant.organization_id}
    if "nixflex" in route:
        headers |= {"Authorization": "Bearer " + key.removeprefix("tl_").replace("_", ":", 1)}
    before = platform.rows(attacker.tenant)

    def ask(name: str) -> str:
        path, body = body_with(route, place, name, attacker)
        method = route.partition(" ")[0]
        # Not the tests' own client: the contracts list few of the statuses.
        url = f"{platform.url}{path}"
        answer = httpx.request(method, url, json=body, headers=headers, timeout=30, trust_env=False)
        text = _said(answer, name)[1]
        assert answer.status_code < 500, text
        # What was refused of a batch, or found by a preflight, is in an answer that is none.
        refused = {"POST /v1/batches": '"refused":1', "POST /v1/imports/preflight": "_not_"}
        assert answer.status_code >= 400 or refused[route] in text, text
        return _stable(text)

    theirs, nobodys = ask(victim.ids[kind]), ask(unknown(kind))

    assert theirs == nobodys or _told((0, theirs), (0, nobodys), kind), (theirs, nobodys)
    assert platform.rows(attacker.tenant) == before
    assert _names_nothing_of(platform, victim, attacker)


def _stable(text: str) -> str:
    """Without what every request has of its own: ids of what it made, times, its number."""
    text = re.sub(r"\b[a-z]+_[0-9a-f]{32}\b", "OWN", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
    return re.sub(r"\+1415\d{7}", "NUMBER", text)


def _names_nothing_of(platform: Platform, victim: Victim, attacker: Attacker) -> bool:
    """Whether no row of the attacker's refers to anything of the victim's."""
    theirs = [name.partition("_")[2] for name in victim.ids.values()]
    for table in ("import_jobs", "phone_numbers", "batches"):
        rows = platform.sql(
            f"SELECT replace(to_jsonb(t)::text, '-', '') FROM {table} t "  # noqa: S608 -- ours
            "WHERE organization_id = :id",
            id=attacker.tenant.uuid,
        )
        if any(name in row[0] for row in rows for name in theirs):
            return False
    return True


def test_an_own_id_of_others_is_one_that_nobody_gave(victim: Victim, attacker: Attacker) -> None:
    client = attacker.tenant.http
    for place, theirs, status in (
        ("agent_id", "front", 404),
        ("user_id", "ada", 404),
        ("inbound.fallback_agent_id", "front", 404),
    ):
        answer = client.post("/v1/imports", json=_put(new_request(), place, theirs))
        assert answer.status_code == status
        same = client.post("/v1/imports", json=_put(new_request(), place, "nobodys"))
        assert answer.json() == same.json()
    # It is not taken either: each organisation has its own.
    made = client.post("/v1/users", json={"name": "mine", "external_id": "ada"})
    assert made.status_code == 201
    assert made.json()["id"] != victim.ids["usr"]
    assert client.get("/v1/users/ada").json()["name"] == "mine"
    assert client.delete("/v1/users/ada").status_code == 204
    assert victim.tenant.http.get("/v1/users/ada").json()["name"] == "u"


def test_an_idempotency_key_of_others_is_as_good_as_new(
    platform: Platform, attacker: Attacker
) -> None:
    other = platform.tenant()
    for path, body in (("/v1/imports", new_request()), ("/v1/batches", {"items": [new_request()]})):
        headers = {"Idempotency-Key": "order-1042"}
        first = other.http.post(path, json=body, headers=headers)
        mine = new_request() if path == "/v1/imports" else {"items": [new_request()]}
        second = attacker.tenant.http.post(path, json=mine, headers=headers)
        assert (first.status_code, second.status_code) == (202, 202)
        assert first.json()["id"] != second.json()["id"]
        assert "Idempotent-Replayed" not in second.headers
