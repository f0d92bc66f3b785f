"""What schemathesis cannot know of this service: which accounts there are, and what is in them.

Loaded by `st run` (SCHEMATHESIS_HOOKS). The parts of a request that are right by their schema are made to be
about something that exists, so that it succeeds often enough, or is refused for the part that is wrong and for
nothing else. What a link gave stays as it is.
"""

import json
import os
import re
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import requests
import schemathesis
from schemathesis.core import NotSet
from schemathesis.core.parameters import ParameterLocation

WORLD = json.loads(Path(os.environ["SCHEMATHESIS_WORLD"]).read_text())
# Accounts of the same few events each. A request gets a new one, so that what was done before makes no
# difference: hypothesis repeats what it did, and gives up where that leads to something else.
KNOWN = {*WORLD["live"], *WORLD["frozen"]}
unused = {kind: iter(WORLD[kind]) for kind in ("live", "frozen")}
CREDENTIALS = {f"Bearer {WORLD[name]}" for name in ("token", "key")}
WELL_FORMED_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
# Of the requests that could be as they came, so many are.
AS_THEY_CAME = 0.1

numbers = count(WORLD["first_number"])


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    headers, path = case.headers, case.operation.path
    # By what the request is, not by how many there were, for the same reason.
    body = None if isinstance(case.body, NotSet) else case.body  # whose repr is another in each process
    random = Random(repr((case.method, path, case.query, body)))
    authorized = headers.get("Authorization") in CREDENTIALS  # otherwise they are what is tested
    if headers.get("Authorization") == f"Bearer {WORLD['token']}" and (
        # It would log out everybody else who comes with this token, or be the check-in of the day.
        case.method == "DELETE" or path.endswith("/checkin")
    ):
        headers["Authorization"] = f"Bearer {log_in()}"
    if authorized:
        set_headers(case, random)
    if path == "/v1/grants" and (right(case, ParameterLocation.BODY) or not isinstance(case.body, str)):
        case.body = lines(random)  # whatever text it is, it is lines: it cannot be wrong as a whole
    if right(case, ParameterLocation.QUERY):
        set_query(case, random)
    if right(case, ParameterLocation.BODY) and isinstance(case.body, dict):
        set_body(case, random)
    as_it_came = random.random() < AS_THEY_CAME and not is_stateful(case)
    if "{openid}" in path and right(case, ParameterLocation.PATH) and not as_it_came:
        settle(case)


def right(case: schemathesis.Case, place: ParameterLocation) -> bool:
    """Whether that part of the request is as the schema wants it; another part may be what is tested."""
    component = case.meta.components.get(place) if case.meta is not None else None
    return component is None or component.mode.is_positive


def phase_of(case: schemathesis.Case) -> str:
    return "" if case.meta is None else str(case.meta.phase.name.value)


def is_stateful(case: schemathesis.Case) -> bool:
    return phase_of(case) == "stateful"


def set_headers(case: schemathesis.Case, random: Random) -> None:
    headers = case.headers
    if WELL_FORMED_KEY.fullmatch(headers.get("Idempotency-Key", "")):
        headers["Idempotency-Key"] = f"st-{next(numbers)}"
    if "If-Match" not in headers:
        return
    # In a header, schemathesis's coverage phase knows letters and digits only: it gives all requests an ETag
    # without its quotes, which would be refused before what they are about. One at random is not the account's.
    tested = getattr(case.meta.phase.data, "parameter", None) if case.meta is not None else None
    if right(case, ParameterLocation.HEADER) or tested not in (None, "If-Match"):
        del headers["If-Match"]
        # Only where there are many: a phase in which all are refused would say that the schema is wrong.
        if random.random() < AS_THEY_CAME and phase_of(case) == "fuzzing":
            headers["If-Match"] = f'"{random.randint(1, 500)}"'


@schemathesis.serializer("application/x-ndjson")
def ndjson(context: schemathesis.SerializationContext, value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


def log_in() -> str:
    answer = requests.post(f"{WORLD['url']}/login", json={"code": f"dev-own{next(numbers)}-1"}, timeout=10)
    return str(answer.json()["token"])


def set_query(case: schemathesis.Case, random: Random) -> None:
    query = case.query or {}
    if is_stateful(case):
        query.pop("dry_run", None)  # nothing follows from what did not happen
        query.pop("as_of", None)
    # Nothing was as of a time to come, which no schema can say; and long ago there was no account.
    if "as_of" in query and (random.random() > AS_THEY_CAME or moment(query["as_of"]) > datetime.now(UTC)):
        query["as_of"] = WORLD["seeded_at"]


def moment(text: Any) -> datetime:
    return datetime.fromisoformat(str(text).upper())


def set_body(case: schemathesis.Case, random: Random) -> None:
    case.body = without_floats(case.body)
    if case.operation.path == "/v1/sessions" and random.random() > AS_THEY_CAME:
        case.body = {"code": f"dev-st-{next(numbers)}"}
    if isinstance(case.body.get("amount"), int) and random.random() > AS_THEY_CAME:
        # What there is enough of: less is captured and reversed than is held and spent.
        part = case.operation.path.endswith(("/capture", "/reversals"))
        case.body["amount"] = case.body["amount"] % 3 + (1 if part else 3)


def without_floats(value: Any) -> Any:
    """JSON Schema cannot tell 1.0 from 1; here credit is never a float, so only the latter is an amount."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: without_floats(item) for key, item in value.items()}
    return [without_floats(item) for item in value] if isinstance(value, list) else value


def settle(case: schemathesis.Case) -> None:
    """Make a request on a made-up account one on a real one, that nobody used, and on events that it has."""
    if case.path_parameters["openid"] in KNOWN:
        return  # a link gave it, and the event with it
    frozen = case.operation.path.endswith("/unfreeze")
    case.path_parameters["openid"] = next(unused["frozen" if frozen else "live"])
    if "hold" in case.path_parameters:
        case.path_parameters["hold"] = WORLD["events"]["hold"]
    if isinstance(case.body, dict) and right(case, ParameterLocation.BODY):
        case.body |= {field: version for field, version in WORLD["events"].items() if field in case.body}


def lines(random: Random) -> str:
    """A bulk grant, of which some lines are wrong."""
    made = []
    for _ in range(random.randint(0, 20)):
        grant = {
            "openid": random.choice([*WORLD["live"][:5], "nobody"]),
            "key": f"st-{next(numbers)}",
            "amount": random.choice([1, 2, 3, 0]),
            "reason": "bulk",
        }
        made.append(random.choice([json.dumps(grant)] * 9 + ["{"]))
    return "\n".join(made)
