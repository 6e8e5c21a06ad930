"""What Schemathesis has to know of this server beyond its description.

Ids in paths are made up by it and lead nowhere. Here some exist: a session that runs, others that may be changed and
deleted, a template, a user, a token, a controller, one that registered. A case that is to be right gets one of them, so that more than "not
found" is seen. The server is named by STREAMSPACE_URL and STREAMSPACE_TOKEN.
"""

import os
import time
import zlib

import jsonschema_rs
import requests
import schemathesis
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode
from schemathesis.generation.meta import TestPhase

URL = os.environ["STREAMSPACE_URL"]
API = requests.Session()
API.trust_env = False
API.headers["Authorization"] = f"Bearer {os.environ['STREAMSPACE_TOKEN']}"
PATIENCE = 60
# So many things of a kind are there to be deleted.
TO_DELETE = 8


def call(method: str, path: str, **body):
    answer = API.request(method, URL + path, timeout=PATIENCE, **({"json": body} if body else {}))
    assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
    return answer.json() if answer.content else None


def new_session() -> str:
    spec = {"base_image": "any", "webapp": {"enabled": True, "port": 3000}, "vnc": {"enabled": True}}
    return call("POST", "/api/v1/sessions?wait=30s", spec=spec, controller_id=HOST)["id"]


def new_template(name: str) -> str:
    secret = {"name": "PIN", "value": "4711", "secret": True}
    return call("POST", "/api/v1/templates", name=name, spec={"base_image": "any", "env": [secret]})["name"]


def new_user(name: str) -> str:
    return call("POST", "/api/v1/admin/users", id=name)["id"]


def new_token(name: str) -> str:
    return call("POST", "/api/v1/tokens", name=name)["id"]


def new_join_token(name: str) -> str:
    return call("POST", "/api/v1/admin/join-tokens", name=name)["id"]


def new_quota(user: str) -> str:
    return call("PUT", f"/api/v1/admin/quotas/{user}", sessions=5)["user_id"]


def many(make, kind: str) -> list:
    return [make(f"{kind}-{number}") for number in range(TO_DELETE)]


def controllers() -> dict:
    """The ids of both, once they are well."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = [one for one in call("GET", "/api/v1/admin/controllers") if not one["remote"]]
        if len(found) == 2 and all(one["status"] == "healthy" for one in found):
            return {one["name"]: one["id"] for one in found}
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


# Sessions are on one of them. What is done to controllers is done to the other, or nothing would run any more.
CONTROLLERS = controllers()
HOST, SPARE = CONTROLLERS["host"], CONTROLLERS["spare"]

# Who calls. Chains of requests come upon these, and must not take away what they are made with.
ME = call("GET", "/api/v1/me")
REMOTE = os.environ["STREAMSPACE_REMOTE"]
SPARED = {ME["token"]["id"], ME["user_id"], HOST, REMOTE, os.environ["STREAMSPACE_JOIN_TOKEN_ID"]}


def drift() -> list:
    """The ids of all objects that no session explains, once they are listed: a listing comes every 30 seconds."""
    deadline = time.monotonic() + 3 * PATIENCE
    while True:
        found = [entry["id"] for entry in call("GET", "/api/v1/admin/drift")["items"]]
        if len(found) >= int(os.environ["STREAMSPACE_DRIFTING"]):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


DRIFT = drift()

# What exists, by the place in a path; for reading, for changing, for deleting.
SESSIONS = "/api/v1/sessions/{id}"
READ = {
    SESSIONS: [new_session()],
    "/api/v1/templates/{name}": [new_template("template")],
    "/api/v1/admin/users/{id}": [new_user("user")],
    "/api/v1/admin/controllers/{id}": [HOST],
    "/api/v1/admin/drift/{id}": DRIFT[:1],
    "/api/v1/admin/plugins/{name}": ["simulated"],
}
CHANGE = {
    SESSIONS: [new_session()],
    "/api/v1/templates/{name}": [new_template("template to change")],
    "/api/v1/admin/users/{id}": [new_user("user to change")],
    "/api/v1/admin/quotas/{user_id}": [new_quota("somebody")],
    "/api/v1/admin/controllers/{id}": [SPARE],
    "/api/v1/controllers/{id}": [REMOTE],
    "/api/v1/admin/drift/{id}": DRIFT[1:2],
}
DELETE = {
    SESSIONS: many(lambda _: new_session(), "session"),
    "/api/v1/templates/{name}": many(new_template, "template"),
    "/api/v1/admin/users/{id}": many(new_user, "user"),
    "/api/v1/admin/quotas/{user_id}": many(new_quota, "quota"),
    "/api/v1/admin/controllers/{id}": [SPARE],
    "/api/v1/admin/drift/{id}": DRIFT[2:],
    "/api/v1/tokens/{id}": many(new_token, "own token"),
    "/api/v1/admin/tokens/{id}": many(new_token, "token"),
    "/api/v1/admin/join-tokens/{id}": many(new_join_token, "join token"),
}


def existing(method: str, path: str) -> list:
    # Whoever forgets a session or adopts an object takes it away as well.
    verb = "DELETE" if path.endswith(("/forget", "/adopt")) else method
    pool = {"DELETE": DELETE, "GET": READ}.get(verb, CHANGE)
    return next((ids for prefix, ids in pool.items() if path.startswith(prefix)), [])


@schemathesis.hook
def before_call(ctx, case, kwargs):
    components = case.meta.components if case.meta else {}

    def is_right(location: ParameterLocation) -> bool:
        info = components.get(location)
        return info is not None and info.mode == GenerationMode.POSITIVE

    # The phase of chains takes ids out of earlier answers.
    if is_right(ParameterLocation.PATH) and case.meta.phase.name != TestPhase.STATEFUL:
        ids = existing(case.method.upper(), case.operation.path)
        for name, made_up in (case.path_parameters or {}).items():
            chance = zlib.crc32(str(made_up).encode())
            # Some of what is made up stays: what is not there is an answer too.
            if ids and chance % 5:
                case.path_parameters[name] = ids[chance % len(ids)]

    if case.method.upper() in ("DELETE", "PATCH"):
        for name, named in (case.path_parameters or {}).items():
            if named in SPARED:
                others = existing("DELETE", case.operation.path) or ["nobody"]
                case.path_parameters[name] = others[0]

    if case.operation.definition.raw.get("operationId") == "create_session" and is_right(ParameterLocation.BODY):
        case.body = placeable(case.body)

    # The token is that of the one and only process.
    if case.operation.definition.raw.get("operationId") == "controller_heartbeat" and is_right(ParameterLocation.BODY):
        case.body.pop("instance", None)

    # A type that is wrong for one thing may be right for another: null is, for an object that may be missing. What was
    # meant to be wrong is made so.
    body = components.get(ParameterLocation.BODY)
    if body is not None and body.mode == GenerationMode.NEGATIVE and fits(case):
        case.body = 0

    query = case.query or {}
    # A request that waits does so up to five minutes.
    if "wait" in query and is_right(ParameterLocation.QUERY):
        query["wait"] = "200ms"
    # An answer that follows a session's output ends with the session.
    if query.get("follow") in (True, "true"):
        query["follow"] = "false"


@schemathesis.hook
def after_call(ctx, case, response):
    # A session that was deleted is there until its backend is done with it; the next request must not find it.
    if case.operation.definition.raw.get("operationId") == "delete_session" and response.status_code < 300:
        deadline = time.monotonic() + PATIENCE
        while API.get(response.request.url.split("?")[0], timeout=PATIENCE).ok and time.monotonic() < deadline:
            time.sleep(0.02)


def fits(case) -> bool:
    """Whether a body is as it is described."""
    content = case.operation.definition.raw.get("requestBody", {}).get("content", {})
    schema = content.get(case.media_type, {}).get("schema")
    if schema is None or not isinstance(case.body, (dict, list, str, int, float, bool, type(None))):
        return False
    components = case.operation.schema.raw_schema["components"]
    return jsonschema_rs.validator_for({**schema, "components": components}, validate_formats=True).is_valid(case.body)


def placeable(body):
    """A session like the one that was made up, but one that there is a controller and an image for."""
    if not isinstance(body, dict) or zlib.crc32(repr(body).encode()) % 5 == 0:
        return body
    spec = body.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    rest = {name: value for name, value in body.items() if name not in ("template_id", "controller_labels", "require")}
    return {**rest, "controller_id": HOST, "controller_type": "simulated", "spec": {**spec, "base_image": "any"}}
