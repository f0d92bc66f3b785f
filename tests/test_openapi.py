"""/openapi.json: that it is whole, that it cannot drift, and that it is enough to write a client."""

import ast
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import jsonschema_rs
import pytest
import requests

from api.operation import declared
from api.problems import REFUSAL_STATUS
from api.routes import ROUTES
from ledger.events import EVENT_TYPES, MAX_CREDIT
from tests.backend import SCOPES, new_key
from tests.conftest import PATIENCE_S, ROOT, Service
from tests.openapi_client import Answer, Client, Undocumented, validator

FAR = "2096-10-02T07:06:40Z"


@pytest.fixture(scope="module")
def document(_shared_service: Service) -> dict[str, Any]:
    return dict(requests.get(f"{_shared_service.url}/openapi.json", timeout=PATIENCE_S).json())


@pytest.fixture(scope="module")
def key(_shared_service: Service) -> str:
    return new_key(_shared_service, *SCOPES)


@pytest.fixture
def client(service: Service, document: dict[str, Any], key: str) -> Client:
    """A client for a backend and a person of its own."""
    return Client(service.url, document, key=key, token=service.login(f"u{secrets.token_hex(4)}"))


@pytest.fixture
def openid(service: Service) -> str:
    """Somebody with 100 credits."""
    user = f"u{secrets.token_hex(4)}"
    service.login(user)
    return service.openid_of(user)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def everything(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from everything(item)
    elif isinstance(value, list):
        for item in value:
            yield from everything(item)


def at(document: dict[str, Any], reference: str) -> Any:
    value: Any = document
    for name in reference.removeprefix("#/").split("/"):
        value = value[name]
    return value


# -- that it is whole ----------------------------------------------------------------------------------


def test_it_is_openapi_3_1(document: dict[str, Any]) -> None:
    """By the schema of OpenAPI 3.1 itself, which schemathesis has a copy of."""
    definitions = pytest.importorskip("schemathesis.specs.openapi.definitions")
    schema = json.loads(json.dumps(definitions.OPENAPI_31))
    assert [error.message for error in jsonschema_rs.validator_for(schema).iter_errors(document)] == []


def test_every_reference_leads_somewhere_and_everything_named_is_used(document: dict[str, Any]) -> None:
    references = {value["$ref"] for value in everything(document) if "$ref" in value}
    assert all(at(document, reference) for reference in references)
    named = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "headers")
        for name in document["components"][kind]
    }
    assert named - references == set()


def test_every_schema_is_one(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        jsonschema_rs.meta.validate(schema)
        assert schema.get("description"), f"{name} does not say what it is"


def test_every_operation_has_a_name_of_its_own_and_declares_its_path(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    for path, _, operation in operations(document):
        declared_names = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
        in_path = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        assert declared_names == in_path
        assert operation["summary"]
        assert set(operation["tags"]) <= {tag["name"] for tag in document["tags"]}


def test_it_has_every_route_and_no_other(service: Service, document: dict[str, Any]) -> None:
    assert set(document["paths"]) == set(ROUTES)
    for path, methods in document["paths"].items():
        real = requests.options(
            service.url + path.format(openid="nobody", hold=1, seal=1, later=1), timeout=PATIENCE_S
        )
        assert set(real.headers["Allow"].replace(" ", "").split(",")) - {"OPTIONS"} == {
            method.upper() for method in methods
        }, path


def test_every_refusal_is_documented_with_its_status_code_and_figures(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for path, method, operation in operations(document):
        for refusal in declared(getattr(ROUTES[path], f"on_{method}")).refusals:
            status = str(REFUSAL_STATUS[refusal])
            content = operation["responses"][status]["content"]["application/problem+json"]["schema"]
            reference = {"$ref": f"#/components/schemas/{refusal.__name__}"}
            assert reference in content.get("anyOf", [content]), (path, refusal)
            assert refusal.code in operation["responses"][status]["description"]
            schema = schemas[refusal.__name__]
            assert schema["properties"]["code"] == {"const": refusal.code}
            assert set(schema["required"]) == set(refusal.__annotations__) - {"code", "retry_helps"}


def test_no_status_is_documented_that_says_nothing(document: dict[str, Any]) -> None:
    """`default` or 5XX would make every answer a documented one."""
    statuses = {status for _, _, operation in operations(document) for status in operation["responses"]}
    assert all(status.isdigit() for status in statuses)
    assert "500" not in statuses


def test_examples_are_what_the_schemas_ask_for(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            schema = content["schema"].get("contentSchema", content["schema"])
            lines = "contentSchema" in content["schema"]
            example = json.loads(content["example"]) if lines else content["example"]
            validator(document, schema).validate(example)
        for parameter in operation["parameters"]:
            for example in parameter["schema"].get("examples", []):
                validator(document, parameter["schema"]).validate(example)
            assert parameter["description"], (path, parameter["name"])


def test_links_lead_to_operations_with_parameters_they_have(document: dict[str, Any]) -> None:
    known = {operation["operationId"]: operation for _, _, operation in operations(document)}
    links = 0
    for _, _, operation in operations(document):
        for status, response in operation["responses"].items():
            for link in response.get("links", {}).values():
                links += 1
                assert status in ("200", "201")
                target = known[link["operationId"]]
                has = {f"{each['in']}.{each['name']}": each["required"] for each in target["parameters"]}
                assert set(link["parameters"]) <= set(has)
                assert {name for name, required in has.items() if required and "path." in name} <= set(
                    link["parameters"]
                )
                for expression in link["parameters"].values():
                    assert expression.startswith(("$request.path.", "$response.body#/"))
                if "requestBody" in link:
                    ((_, content),) = target["requestBody"]["content"].items()
                    schema = at(document, content["schema"]["$ref"])
                    assert set(schema["required"]) <= set(link["requestBody"]) <= set(schema["properties"])
    assert links > 15


def test_a_dry_run_leads_nowhere(document: dict[str, Any]) -> None:
    """What was not recorded has no version to go on with."""
    for _, _, operation in operations(document):
        if "201" in operation["responses"] and "200" in operation["responses"]:
            assert "links" not in operation["responses"]["200"]
            assert "Idempotent-Replayed" not in operation["responses"]["200"]["headers"]


def test_it_is_the_same_bytes_from_every_worker(service: Service) -> None:
    assert service.workers > 1
    seen = set()
    for _ in range(20):  # a connection each, and the kernel gives them to whoever comes first
        response = requests.get(
            f"{service.url}/openapi.json", headers={"Connection": "close"}, timeout=PATIENCE_S
        )
        assert response.headers["Content-Type"] == "application/json"
        seen.add(response.content)
    for seed in ("1", "2"):
        command = "import sys; from api.openapi import encoded; sys.stdout.buffer.write(encoded())"
        environ = os.environ | {"PYTHONHASHSEED": seed}
        made = subprocess.run(
            [sys.executable, "-c", command], cwd=ROOT, env=environ, capture_output=True, check=True
        )
        seen.add(made.stdout)
    assert len(seen) == 1


# -- that it cannot drift ------------------------------------------------------------------------------

# Each of them is tried in each field of each body: the service takes it where the schema does, and only there.
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 30, MAX_CREDIT, MAX_CREDIT + 1, 2**63, 2**64, 1.5, "", "1", "a", "x" * 33),
    *(
        "x" * 128,
        "x" * 129,
        "x" * 200,
        "x" * 201,
        "👍🏽" * 100,
        "👍🏽" * 101,
        "a\n",
        "a\tb",
        "\x00",
        "\x7f",
        "\x85",
    ),
    *("订单 1042", "dev-u-1", "dev u", [], ["a"], {}, {"a": 1}, FAR, "2096-10-02T07:06:40+08:00", "2096-10-02"),
    *("2096-10-02T07:06:40", "2096-02-30T00:00:00Z", "2096-10-02T24:00:00Z", "https://example.com/a.png"),
    *("http://example.com/a.png", "https://", "https://a b", "data:image/png;base64,AAAA", "data:text/html,x"),
    *("data:image/png;base64,", "data:image/png;base64,AAAA=", "https://example.com/" + "a" * 40_000),
]


def bodies(document: dict[str, Any]) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    return [
        (operation["operationId"], at(document, content["schema"]["$ref"]), content["example"])
        for _, _, operation in operations(document)
        for media, content in operation.get("requestBody", {}).get("content", {}).items()
        if media == "application/json"
    ]


def send(
    client: Client, operation_id: str, openid: str, body: Any = None, **given: dict[str, str]
) -> requests.Response:
    """What the client would not send: a body as it is, parameters as text. Nothing is recorded of a write."""
    path, method, operation = client.operations[operation_id]
    headers = client.authorization(operation) | {"Idempotency-Key": secrets.token_hex(8)}
    dry_run = any(each["name"] == "dry_run" for each in operation["parameters"])
    response = requests.request(
        method,
        client.url + path.format(openid=openid, hold=1, seal=1, later=1),
        params=({"dry_run": "true"} if dry_run else {}) | given.get("query", {}),
        headers=headers | given.get("header", {}),
        json=body,
        timeout=PATIENCE_S,
    )
    assert response.status_code < 500, response.text
    return response


def test_a_body_is_refused_exactly_where_its_schema_refuses_it(
    client: Client, document: dict[str, Any], openid: str
) -> None:
    """Every field: away, of another type, and to both sides of every limit."""
    tried = 0
    for operation_id, schema, example in bodies(document):
        check = validator(document, schema)
        assert not check.is_valid({**example, "nobody_knows": 1})
        tries = [{**example, field: value} for field in schema["properties"] for value in VALUES]
        tries += [{name: value for name, value in example.items() if name != gone} for gone in example]
        tries += [{**example, "nobody_knows": 1}]
        for body in tries:
            status = send(client, operation_id, openid, body).status_code
            assert (status == 422) != check.is_valid(body), (operation_id, status, json.dumps(body)[:300])
            tried += 1
        for body in (None, [], [example], "a", 1, True):
            refused = send(client, operation_id, openid, body).status_code
            assert refused in (400, 415, 422), (operation_id, body)
    assert tried > 1000


def test_what_no_schema_can_say_is_said_in_words(client: Client, document: dict[str, Any], openid: str) -> None:
    """To JSON Schema 1.0 is an integer, and a leap second a time; here neither is."""
    body = {"amount": 1.0, "reason": "float"}
    schema = document["components"]["schemas"]["GrantBody"]
    assert validator(document, schema).is_valid(body)
    assert send(client, "post_accounts_grants", openid, body).status_code == 422
    assert "without a decimal point" in schema["properties"]["amount"]["description"]
    late = {"amount": 1, "reason": "leap", "expires_at": "2096-12-31T23:59:60Z"}
    assert validator(document, schema).is_valid(late)
    assert send(client, "post_accounts_grants", openid, late).status_code == 422


TEXTS = [
    "",
    "0",
    "1",
    "-1",
    "1.5",
    "20",
    "100",
    "101",
    "true",
    "false",
    "True",
    "yes",
    "null",
    FAR,
    "2020-01-01",
]
TEXTS += [
    "2020-01-01T00:00:00Z",
    "2020-01-01T00:00:00",
    "CreditSpent",
    "creditspent",
    '"12"',
    '"0"',
    '"012"',
    "12",
]
TEXTS += [
    'W/"12"',
    "*",
    '"12345678901234567"',
    "a b",
    "k" * 255,
    "k" * 256,
    str(MAX_CREDIT),
    str(MAX_CREDIT + 1),
]


def typed(value: str, schema: dict[str, Any]) -> Any:
    """What a parameter's text is by its schema's type: itself, where it is none of that."""
    if schema["type"] == "boolean":
        return {"true": True, "false": False}.get(value, value)
    if schema["type"] == "integer":
        return int(value) if value.removeprefix("-").isdigit() else value
    return value


def test_a_parameter_is_refused_exactly_where_its_schema_refuses_it(
    client: Client, document: dict[str, Any], openid: str
) -> None:
    tried = 0
    for _, _, operation in operations(document):
        ((_, content),) = operation.get("requestBody", {"content": {"": {}}})["content"].items()
        for parameter in operation["parameters"]:
            check = validator(document, parameter["schema"])
            for value in TEXTS:
                # No header is what an empty one is to some; and as_of alone depends on the clock.
                if parameter["in"] == "path" or not value or (parameter["name"], value) == ("as_of", FAR):
                    continue
                given = {parameter["in"]: {parameter["name"]: value}}
                response = send(client, operation["operationId"], openid, content.get("example"), **given)
                valid = check.is_valid(typed(value, parameter["schema"]))
                assert (response.status_code == 400) != valid, (operation["operationId"], given, response.text)
                tried += 1
    assert tried > 500


def test_answers_are_what_their_schemas_say_for_a_whole_life(
    service: Service, client: Client, openid: str
) -> None:
    """The client checks each answer; here every operation answers, well and with each status that it can."""
    keys = (f"life-{number}" for number in range(100))

    def do(operation_id: str, body: Any = None, **more: Any) -> Answer:
        if "Idempotency-Key" in json.dumps(client.operations[operation_id][2]["parameters"]):
            more.setdefault("idempotency_key", next(keys))
        return client.call(operation_id, body, more)

    account = partial(do, openid=openid)
    grant = account("post_accounts_grants", {"amount": 50, "reason": "campaign", "expires_at": FAR})
    spend = account("post_accounts_spends", {"amount": 30, "reason": "order", "reference": "o-1"})
    hold = account("post_accounts_holds", {"amount": 40, "reason": "booking"})
    other = account("post_accounts_holds", {"amount": 10, "reason": "booking"})
    capture = account("post_accounts_holds_capture", {"reason": "paid", "amount": 25}, hold=version(hold))
    account("post_accounts_holds_release", {"reason": "cancelled"}, hold=version(other))
    account("post_accounts_reversals", {"spend": version(spend), "reason": "refund", "amount": 10})
    account("post_accounts_revocations", {"grant": version(grant), "reason": "mistake"})
    account("post_accounts_freeze", {"reason": "look into it"})
    read = account("get_accounts")
    assert read.headers["ETag"] == f'"{read.body["version"]}"'
    assert account("get_accounts", as_of=read.body["as_of"]).body["frozen"]
    account("post_accounts_unfreeze", {"reason": "looked into"})
    assert account("post_accounts_spends", {"amount": 1, "reason": "dry"}, dry_run=True).status == 200
    line = {"openid": openid, "key": "bulk-1", "amount": 3, "reason": "bulk"}
    lines = do("post_grants", json.dumps(line) + "\n" + json.dumps(line | {"openid": "nobody"}))
    assert [answer["status"] for answer in lines.body] == [201, 404]

    refused = {
        409: account("post_accounts_spends", {"amount": MAX_CREDIT, "reason": "too much"}),
        404: account("post_accounts_holds_capture", {"reason": "none"}, hold=1),
        412: account("post_accounts_grants", {"amount": 1, "reason": "late"}, if_match='"1"'),
        422: account("post_accounts_grants", {"amount": 2, "reason": "again"}, idempotency_key="life-0"),
    }
    assert {status: answer.status for status, answer in refused.items()} == {code: code for code in refused}
    assert account("post_accounts_holds_capture", {"reason": "late"}, hold=version(hold)).status == 409
    assert do("get_accounts", openid="nobody").status == 404

    seen: set[str] = set()
    page = account("get_accounts_events", limit=2)
    while True:
        for event in page.body["events"]:
            schema = {"$ref": f"#/components/schemas/{event['type']}"}
            validator(client.document, schema).validate(event["data"])
            seen.add(event["type"])
        if page.body["next_before"] is None:
            break
        page = client.follow(page, "next", limit=2)
    assert seen == set(EVENT_TYPES) - {"CheckedIn", "CreditExpired"}
    assert version(capture) < read.body["version"]


def test_answers_to_a_person_are_what_their_schemas_say(service: Service, client: Client) -> None:
    assert client.post_me_checkin(idempotency_key="day").body["event"]["type"] == "CreditGranted"
    assert client.post_me_checkin(idempotency_key="day-again").body["code"] == "already-checked-in"
    assert client.get_me_credit().body["checkin"]["checked_in"]
    assert client.put_me_profile({"nickname": "小明"}).body["nickname"] == "小明"
    assert client.get_me().body["nickname"] == "小明"
    newest = client.get_me_events(limit=1)
    assert client.follow(newest, "next").body["events"][0]["type"] == "CheckedIn"
    assert client.post_sessions({"code": "no-such-code"}).status == 401
    assert client.delete_sessions_current().status == 204
    assert client.get_me().status == 401


def version(answer: Answer) -> int:
    return int(answer.body["event"]["version"])


# -- that it is enough ---------------------------------------------------------------------------------


def test_the_client_knows_nothing_but_the_document() -> None:
    source = (ROOT / "tests" / "openapi_client.py").read_text()
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
        )
    }
    assert imported == {"json", "re", "typing", "jsonschema_rs", "requests"}
    assert not re.search(r"/v1|openid|hold|Idempotency|If-Match|grant|spend|ck_", source)


def test_a_client_made_from_the_document_does_a_whole_purchase(
    service: Service, document: dict[str, Any], key: str
) -> None:
    """Grant, hold, capture, reverse: each, and each look at the account, over a link of the answer before."""
    client = Client(service.url, document, key=key)
    user = f"u{secrets.token_hex(4)}"
    login = client.post_sessions({"code": f"dev-{user}-{secrets.token_hex(8)}"})
    person = Client(service.url, document, token=login.body["token"])
    before = person.get_me_credit().body

    account = client.get_accounts(openid=service.openid_of(user))
    grant = client.follow(
        account, "grant", {"amount": 50, "reason": "welcome"}, idempotency_key="purchase-grant"
    )
    assert (grant.status, grant.body["credit"]) == (201, before["credit"] + 50)
    hold = client.follow(
        account,
        "hold",
        {"amount": 120, "reason": "order 7", "reference": "7", "deadline": FAR},
        idempotency_key="purchase-hold",
    )
    reserved = client.follow(hold, "account").body
    assert (reserved["credit"], reserved["held"]) == (before["credit"] - 70, 120)
    assert [each["reference"] for each in reserved["holds"]] == ["7"]

    capture = client.follow(hold, "capture", {"reason": "order 7 sent", "amount": 100}, idempotency_key="c")
    spent = client.follow(capture, "account").body
    assert (spent["credit"], spent["held"], spent["spent"]) == (before["credit"] - 50, 0, 100)

    for replayed in (None, "true"):  # a connection broke, and the answer to the first did not arrive
        reversal = client.follow(capture, "reverse", {"reason": "order 7 came back"}, idempotency_key="r")
        assert (reversal.status, reversal.headers.get("Idempotent-Replayed")) == (201, replayed)
        assert reversal.body["event"]["data"]["amount"] == 100
    after = client.follow(reversal, "account").body
    assert (after["credit"], after["held"], after["spent"]) == (before["credit"] + 50, 0, 0)
    assert person.get_me_credit().body["credit"] == after["credit"]
    history = [event["type"] for event in person.get_me_events(limit=4).body["events"]]
    assert history == ["SpendReversed", "HoldCaptured", "CreditHeld", "CreditGranted"]


def test_the_client_refuses_what_the_document_does(
    client: Client, document: dict[str, Any], openid: str
) -> None:
    """Otherwise a purchase would prove nothing of the document."""
    body = {"amount": 1, "reason": "r"}
    with pytest.raises(TypeError, match="needs Idempotency-Key"):
        client.post_accounts_grants(body, openid=openid)
    with pytest.raises(TypeError, match="has no"):
        client.post_accounts_grants(body, openid=openid, idempotency_key="k", coupon="x")
    with pytest.raises(jsonschema_rs.ValidationError):
        client.post_accounts_grants(body | {"amount": 0}, openid=openid, idempotency_key="k")
    with pytest.raises(AttributeError):
        client.delete_accounts(openid=openid)
    narrow = json.loads(json.dumps(document))
    narrow["components"]["schemas"]["AccountView"]["properties"]["credit"] = {"type": "string"}
    with pytest.raises(Undocumented):
        Client(client.url, narrow, key=client.credentials["key"]).get_accounts(openid=openid)
    del narrow["paths"]["/v1/accounts/{openid}"]["get"]["responses"]["404"]
    with pytest.raises(Undocumented, match="not in the document"):
        Client(client.url, narrow, key=client.credentials["key"]).get_accounts(openid="nobody")
