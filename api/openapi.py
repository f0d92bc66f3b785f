"""`GET /openapi.json`: OpenAPI 3.1, made from the declarations that check the requests."""

from functools import cache
from typing import Any, Final

import falcon
import falcon.asgi
import msgspec

from api.incoming import OPENID
from api.operation import NOBODY, USER, Operation, declared
from api.outgoing import EventView
from api.problems import PROBLEM_JSON, REFUSAL_STATUS, ProblemBody
from api.routes import ROUTES
from ledger.events import EVENT_TYPES, MAX_CREDIT

_VERSION: Final = "1"
_REF: Final = "#/components/schemas/{name}"
_ABOUT: Final = """\
Each person's credit, an append-only log of events. A write is answered with its event and the credit after it,
once both are on disk. Credits are integers from 0 to 2^53-1, times RFC 3339; a number of microseconds since
1970 UTC has a name that ends in `_us`. `Idempotency-Key` makes a write happen once: send it again after a broken
connection or a 503, with the same key. What is refused is `application/problem+json` with a stable `code` and figures."""

_PATH_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "openid": {
        "name": "openid",
        "in": "path",
        "required": True,
        "description": "Whose account.",
        "schema": {"type": "string", "pattern": OPENID.partition("(?!")[0]},
    },
    "hold": {
        "name": "hold",
        "in": "path",
        "required": True,
        "description": "The version of the event CreditHeld.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_CREDIT},
    },
}
_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "Idempotent-Replayed": {
        "description": "`true` where this is the recorded answer to an earlier request.",
        "schema": {"type": "string", "const": "true"},
    },
    "ETag": {"description": "The account's version, for If-Match.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
}
# What any operation may answer beside its own refusals: status -> codes.
_BUSY: Final = {429: ["rate-limited"], 503: ["not-committed", "outcome-unknown"]}
_WRONG_QUERY: Final = {400: ["invalid-parameter", "repeated-parameter", "unknown-parameter"]}
_WRONG_BODY: Final = {
    400: ["malformed-json"],
    408: ["body-timeout"],
    413: ["body-too-large"],
    415: ["not-json"],
    422: ["invalid-body"],
}


class OpenApi:
    """`GET /openapi.json`."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.content_type = falcon.MEDIA_JSON
        resp.data = encoded()


@cache
def encoded() -> bytes:
    return msgspec.json.encode(document())


def document() -> dict[str, Any]:
    """The whole document, as JSON values."""
    operations = [
        (path, method.lower(), declared(responder))
        for path, resource in ROUTES.items()
        for method in ("GET", "POST", "PUT", "DELETE")
        if (responder := getattr(resource, f"on_{method.lower()}", None)) is not None
    ]
    structs: dict[str, Any] = {
        kind.__name__: kind
        for _, _, operation in operations
        for kind in (operation.body, operation.answer)
        if kind is not None
    }
    types = [*structs.values(), *EVENT_TYPES.values(), ProblemBody]
    _, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    facts = [{"$ref": _REF.format(name=name)} for name in EVENT_TYPES]
    schemas[EventView.__name__]["properties"]["data"] = {"anyOf": facts}
    schemas[EventView.__name__]["properties"]["type"] = {"enum": sorted(EVENT_TYPES)}
    paths: dict[str, dict[str, Any]] = {}
    for path, method, operation in operations:
        paths.setdefault(path, {})[method] = _operation(path, method, operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Credit Ledger", "version": _VERSION, "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": _plain_patterns(schemas),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A user's, from POST /v1/sessions.",
                },
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A backend's API key, from `credit-ledger key create`.",
                },
            },
        },
    }


def _operation(path: str, method: str, operation: Operation) -> dict[str, Any]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters = [_PATH_PARAMETERS[name] for name in names] + [
        {
            "name": parameter.name,
            "in": parameter.place,
            "required": parameter.required,
            "description": parameter.description,
            "schema": parameter.schema,
        }
        for parameter in operation.parameters
    ]
    made: dict[str, Any] = {
        "operationId": operation_id(path, method),
        "summary": operation.summary,
        "parameters": parameters,
        "responses": _responses(operation),
        "security": []
        if operation.scopes is NOBODY
        else [{"token" if operation.scopes == USER else "key": []}],
    }
    if operation.scopes:
        made["description"] = f"Needs an API key with the scope {' or '.join(sorted(operation.scopes))}."
    if operation.body is not None:
        schema: dict[str, Any] = {"$ref": _REF.format(name=operation.body.__name__)}
        if operation.media[0] != falcon.MEDIA_JSON:
            schema = {"type": "string", "description": f"A {operation.body.__name__} as JSON on each line."}
        made["requestBody"] = {"required": True, "content": {operation.media[0]: {"schema": schema}}}
    return made


def operation_id(path: str, method: str) -> str:
    """A name for a client's function: `POST /v1/accounts/{openid}/grants` is `post_accounts_grants`."""
    words = [part for part in path.split("/")[2:] if not part.startswith("{")]
    return "_".join([method, *words])


def _responses(operation: Operation) -> dict[str, Any]:
    codes: dict[int, list[str]] = {}

    def add(more: dict[int, list[str]]) -> None:
        for status, names in more.items():
            codes.setdefault(status, []).extend(names)

    add(_BUSY | _WRONG_QUERY)
    add({404: ["not-found"]})
    if operation.scopes == USER:
        add({401: ["not-logged-in"]})
    elif operation.scopes:
        add({401: ["invalid-key"], 403: ["scope-missing"]})
    if operation.body is not None:
        add(_WRONG_BODY)
    for parameter in operation.parameters:
        if parameter.required:
            add({400: [parameter.name.lower() + "-missing"]})
    for refusal in operation.refusals:
        add({REFUSAL_STATUS[refusal]: [refusal.code]})
    for code, status in operation.failures.items():
        add({status: [code]})
    responses: dict[str, Any] = {str(operation.status): _good(operation)}
    if any(parameter.name == "dry_run" for parameter in operation.parameters) and operation.status != 200:
        responses["200"] = {**_good(operation), "description": "What would be recorded; nothing was."}
    for status in sorted(codes):
        responses[str(status)] = _bad(status, sorted(set(codes[status])))
    return responses


def _good(operation: Operation) -> dict[str, Any]:
    response: dict[str, Any] = {"description": operation.summary + "."}
    if operation.answer is not None:
        schema: dict[str, Any] = {"$ref": _REF.format(name=operation.answer.__name__)}
        if operation.media[1] != falcon.MEDIA_JSON:
            schema = {"type": "string", "description": f"A {operation.answer.__name__} as JSON on each line."}
        response["content"] = {operation.media[1]: {"schema": schema}}
    if operation.status == 201 and operation.parameters:
        response["headers"] = {"Idempotent-Replayed": _HEADERS["Idempotent-Replayed"]}
    if operation.links:
        response["links"] = {
            name: {
                "operationId": operation_id(link["path"], "get" if name == "account" else "post"),
                **{key: value for key, value in link.items() if key != "path"},
            }
            for name, link in operation.links.items()
        }
    return response


def _bad(status: int, codes: list[str]) -> dict[str, Any]:
    schema = {
        "allOf": [{"$ref": _REF.format(name=ProblemBody.__name__)}],
        "properties": {"code": {"enum": codes}, "status": {"const": status}},
    }
    response: dict[str, Any] = {
        "description": falcon.code_to_http_status(status).partition(" ")[2] + ": " + ", ".join(codes) + ".",
        "content": {PROBLEM_JSON: {"schema": schema}},
    }
    if status in (429, 503):
        response["headers"] = {"Retry-After": _HEADERS["Retry-After"]}
    return response


def _plain_patterns(schema: Any) -> Any:
    """Patterns without what they need in Python alone: in ECMA 262 `$` is the very end."""
    if isinstance(schema, dict):
        return {
            key: value.partition("(?!")[0]
            if key == "pattern" and isinstance(value, str)
            else _plain_patterns(value)
            for key, value in schema.items()
        }
    return [_plain_patterns(item) for item in schema] if isinstance(schema, list) else schema
