"""`GET /openapi.json`: OpenAPI 3.1, made from the declarations that check the requests."""

from functools import cache
from typing import Any, Final

import falcon
import falcon.asgi
import msgspec

from api.incoming import EXAMPLE_OPENID, OPENID
from api.openapi_problems import HEADERS, REF, headers, problems, ref, refusal_schema
from api.operation import DRY_RUN, IDEMPOTENCY_KEY, NOBODY, USER, Operation, declared
from api.outgoing import EventView
from api.problems import ProblemBody
from api.routes import ROUTES
from ledger.events import EVENT_TYPES, MAX_CREDIT

_VERSION: Final = "1"
_ABOUT: Final = """\
Each person's credit, an append-only log of events. A write is answered with its event and the credit after it,
once both are on disk.

Credits are integers from 0 to 2^53-1 without a decimal point, times RFC 3339 with an offset; a number of
microseconds since 1970 UTC has a name that ends in `_us`. A field that nobody knows is refused.

`Idempotency-Key` makes a write happen once: after a broken connection, or a 503, send it again with the same
key. What was recorded is answered again then, with `Idempotent-Replayed: true`. A refusal records nothing, and
its key stays free. `dry_run=true` decides and answers and records nothing.

What is refused is `application/problem+json` (RFC 9457) with a stable `code` and the refusal's own figures; 500
`internal-error` is our fault. Every answer has an `X-Request-ID`, which our log knows it by."""

_TAGS: Final = {
    "sessions": "Logging in and out.",
    "me": "What a person sees and does with his own, by the mini-program.",
    "accounts": "What a backend reads and does with any account.",
    "grants": "Many grants as one request.",
    "seals": "What the service commits to in public, minute by minute.",
}
_PATH_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "openid": {
        "name": "openid",
        "in": "path",
        "required": True,
        "description": "Whose account.",
        "schema": {
            "type": "string",
            "pattern": OPENID.partition("(?!")[0],
            "examples": [EXAMPLE_OPENID],
        },
    },
    "hold": {
        "name": "hold",
        "in": "path",
        "required": True,
        "description": "The version of the event CreditHeld.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_CREDIT, "examples": [3]},
    },
    "seal": {
        "name": "seal",
        "in": "path",
        "required": True,
        "description": "The number of a seal.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_CREDIT, "examples": [1]},
    },
    "later": {
        "name": "later",
        "in": "path",
        "required": True,
        "description": "The number of the same seal or of a later one.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_CREDIT, "examples": [1]},
    },
}
_SCHEMES: Final = {
    "token": {"type": "http", "scheme": "bearer", "description": "A user's, from POST /v1/sessions."},
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "A backend's API key, from `credit-ledger key create`.",
    },
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
    schemas = _schemas([operation for _, _, operation in operations])
    paths: dict[str, dict[str, Any]] = {}
    for path, method, operation in operations:
        paths.setdefault(path, {})[method] = _operation(path, method, operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Credit Ledger", "version": _VERSION, "description": _ABOUT},
        "tags": [{"name": name, "description": about} for name, about in _TAGS.items()],
        "paths": paths,
        "components": {"schemas": schemas, "headers": HEADERS, "securitySchemes": _SCHEMES},
    }


def _schemas(operations: list[Operation]) -> dict[str, Any]:
    """Everything that is sent or answered, by name: bodies, answers, events, refusals."""
    structs: dict[str, Any] = {
        kind.__name__: kind
        for operation in operations
        for kind in (operation.body, operation.answer)
        if kind is not None
    }
    types = [*structs.values(), *EVENT_TYPES.values(), ProblemBody]
    _, schemas = msgspec.json.schema_components(types, ref_template=REF)
    event = schemas[EventView.__name__]["properties"]
    event["type"] |= {"enum": sorted(EVENT_TYPES)}
    event["data"] = {"anyOf": [ref(cls) for cls in EVENT_TYPES.values()]}
    refusals = {refusal for operation in operations for refusal in operation.refusals}
    for refusal in sorted(refusals, key=lambda refusal: refusal.__name__):
        schemas[refusal.__name__] = refusal_schema(refusal)
    plain: dict[str, Any] = _plain_patterns(schemas)
    return plain


def _operation(path: str, method: str, operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters = [_PATH_PARAMETERS[name] for name in names] + [
        {
            "name": parameter.name,
            "in": parameter.place,
            "required": parameter.required,
            "description": parameter.description,
            "schema": parameter.schema,
        }
        # A key of its own for each, so that the examples can be tried one after the other.
        | ({"example": f"order-1042-{path.rpartition('/')[2]}"} if parameter is IDEMPOTENCY_KEY else {})
        for parameter in operation.parameters
    ]
    scheme = "token" if operation.scopes == USER else "key"
    made: dict[str, Any] = {
        "operationId": operation_id(path, method),
        "tags": [path.split("/")[2]],
        "summary": operation.summary,
        "parameters": parameters,
        "responses": _responses(path, method, operation),
        "security": [] if operation.scopes is NOBODY else [{scheme: []}],
    }
    if operation.scopes:
        made["description"] = f"Needs an API key with the scope {' or '.join(sorted(operation.scopes))}."
    if operation.body is not None:
        content: dict[str, Any] = {"schema": _content(operation.body, operation.media[0])}
        example = _example(schemas[operation.body.__name__])
        lines = operation.media[0] != falcon.MEDIA_JSON
        content["example"] = msgspec.json.encode(example).decode() + "\n" if lines else example
        made["requestBody"] = {"required": True, "content": {operation.media[0]: content}}
    return made


def operation_id(path: str, method: str) -> str:
    """A name for a client's function: `POST /v1/accounts/{openid}/grants` is `post_accounts_grants`.

    What is no account is named where it stands last: `GET /v1/seals/{seal}` is `get_seals_seal`.
    """
    *parts, last = path.split("/")[2:]
    words = [part for part in parts if not part.startswith("{")]
    return "_".join([method, *words, *([] if last == "{openid}" else [last.strip("{}")])])


def _responses(path: str, method: str, operation: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {str(operation.status): _good(operation)}
    if DRY_RUN in operation.parameters and operation.status != 200:
        dry = {"description": "What would be recorded; nothing was.", "content": _good(operation)["content"]}
        responses["200"] = dry | {"headers": headers("X-Request-ID")}
    return responses | problems(path, method, operation)


def _good(operation: Operation) -> dict[str, Any]:
    done = "Done." if operation.answer is None else operation.answer.__doc__.strip()
    response: dict[str, Any] = {"description": done}
    names = ["X-Request-ID"]
    if IDEMPOTENCY_KEY in operation.parameters:
        names.append("Idempotent-Replayed")
    if operation.answer is not None:
        response["content"] = {operation.media[1]: {"schema": _content(operation.answer, operation.media[1])}}
        if operation.answer.__name__ == "AccountView":
            names.append("ETag")
    response["headers"] = headers(*names)
    if operation.links:
        response["links"] = operation.links
    return response


def _content(kind: type[Any], media: str) -> dict[str, Any]:
    if media == falcon.MEDIA_JSON:
        return ref(kind)
    # What a line is stands in `contentSchema`: OpenAPI 3.1 has no other word for the lines of a stream.
    about = f"A {kind.__name__} as JSON on each line."
    return {"type": "string", "contentMediaType": media, "contentSchema": ref(kind), "description": about}


def _example(schema: dict[str, Any]) -> dict[str, Any]:
    """A body of the fields that have an example."""
    examples: dict[str, Any] = {}
    for name, field in schema["properties"].items():
        given = field.get("anyOf", [field])[0].get("examples")
        if given:
            examples[name] = given[0]
    return examples


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
