"""How /openapi.json says no: at which status each operation refuses what, with which code and figures."""

from dataclasses import fields
from typing import Any, Final

import falcon

from api.bodies import MAX_BODY_BYTES
from api.operation import NOBODY, USER, Operation
from api.problems import LOGIN_FAILURES, PROBLEM_JSON, REFUSAL_STATUS, ProblemBody
from ledger.errors import Refusal

REF: Final = "#/components/schemas/{name}"
HEADERS: Final[dict[str, dict[str, Any]]] = {
    "Idempotent-Replayed": {
        "description": "`true` where this is the recorded answer to an earlier request.",
        "schema": {"type": "string", "const": "true"},
    },
    "ETag": {
        "description": "The account's version, for If-Match; not with `as_of`.",
        "schema": {"type": "string", "pattern": '^"[1-9][0-9]*"$'},
    },
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
    "WWW-Authenticate": {
        "description": "How to say who is calling.",
        "schema": {"type": "string", "const": "Bearer"},
    },
    "X-Request-ID": {
        "description": "The request's own, where it had one that fits, or one that was made.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
}
# What an operation may answer beside its own refusals: code -> status and what it means.
_QUERY_CODES: Final = {
    "invalid-parameter": (400, "A parameter is not what its schema says; `detail` names it."),
    "repeated-parameter": (400, "A query parameter was given twice."),
    "unknown-parameter": (400, "A query parameter that this operation does not have."),
}
_BODY_CODES: Final = {
    "malformed-json": (400, "The body is not JSON."),
    "body-timeout": (408, "The body did not come in time."),
    "body-too-large": (413, f"A body may have {MAX_BODY_BYTES} bytes."),
    "not-json": (415, "Content-Type must be application/json."),
    "invalid-body": (422, "The body is not what its schema says; `detail` names the field."),
}
_USER_CODES: Final = {"not-logged-in": (401, "No live session has this token.")}
_KEY_CODES: Final = {
    "invalid-key": (401, "No live API key: unknown, expired, or revoked."),
    "scope-missing": (403, "The API key lacks the scope that `scope` names."),
}
_PATH_CODES: Final = {"not-found": (404, "Nothing could have this path.")}
_RATE_CODES: Final = {"rate-limited": (429, "Too many requests; `Retry-After` says how long to wait.")}
_READ_CODES: Final = {
    "not-readable": (
        503,
        "A file is damaged or cannot be read, which the operator has to see to. A write may be sent again with "
        "the same key: it lands once.",
    )
}
_WRITE_CODES: Final = {
    "not-committed": (503, "Nothing was written. Send it again with the same key."),
    "outcome-unknown": (
        503,
        "Whether it was written is not known. Send it again with the same key: it lands once.",
    ),
}
_OWN_CODES: Final = {
    "busy": "Many long reads are waiting already, or a release is being changed; try again.",
    "not-sealed": "No seal has this account yet; one is made every minute.",
    "seal-not-found": "There is no seal of that number.",
    "not-ndjson": "Content-Type must be application/x-ndjson.",
    **{code: sentence for code, (_, sentence) in LOGIN_FAILURES.items()},
}


def problems(path: str, method: str, operation: Operation) -> dict[str, Any]:
    """What an operation answers where it does not do what was asked: status -> response."""
    codes = _QUERY_CODES | _RATE_CODES | _READ_CODES
    if operation.scopes is not NOBODY:
        codes |= _USER_CODES if operation.scopes == USER else _KEY_CODES
    if "{" in path:
        codes |= _PATH_CODES
    if method != "get":
        codes |= _WRITE_CODES
    if operation.body is not None and operation.media[0] == falcon.MEDIA_JSON:
        codes |= _BODY_CODES
    for parameter in operation.parameters:
        if parameter.required:
            codes |= {parameter.name.lower() + "-missing": (400, f"{parameter.name} is required.")}
    codes |= {code: (status, _OWN_CODES[code]) for code, status in operation.failures.items()}
    statuses = {status for status, _ in codes.values()} | {
        REFUSAL_STATUS[refusal] for refusal in operation.refusals
    }
    responses = {}
    for status in sorted(statuses):
        refusals = [refusal for refusal in operation.refusals if REFUSAL_STATUS[refusal] == status]
        sentences = {code: sentence for code, (of, sentence) in codes.items() if of == status}
        responses[str(status)] = _bad(status, refusals, sentences)
    return responses


def _bad(status: int, refusals: list[type[Refusal]], sentences: dict[str, str]) -> dict[str, Any]:
    """The problems of one status: those of the ledger by their names, the others by their codes."""
    kinds: list[dict[str, Any]] = [ref(refusal) for refusal in refusals]
    if sentences:
        codes = [{"const": code, "description": sentence} for code, sentence in sorted(sentences.items())]
        figures = {"code": {"oneOf": codes}, "status": {"const": status}}
        kinds.append({"allOf": [ref(ProblemBody)], "properties": figures})
    names = sorted([*sentences, *(refusal.code for refusal in refusals)])
    names_of = {401: ["WWW-Authenticate"], 429: ["Retry-After"], 503: ["Retry-After"]}.get(status, [])
    return {
        "description": falcon.code_to_http_status(status).partition(" ")[2] + ": " + ", ".join(names) + ".",
        "content": {PROBLEM_JSON: {"schema": kinds[0] if len(kinds) == 1 else {"anyOf": kinds}}},
        "headers": headers("X-Request-ID", *names_of),
    }


def headers(*names: str) -> dict[str, Any]:
    """The headers of a response, by reference to what the document says of them once."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def ref(kind: type[Any]) -> dict[str, str]:
    """A reference to the schema of `kind`."""
    return {"$ref": REF.format(name=kind.__name__)}


def refusal_schema(refusal: type[Refusal]) -> dict[str, Any]:
    """The problem that a refusal of the ledger is answered with: its code, status, sentence and figures."""
    sentence = (refusal.__doc__ or "").strip()
    if refusal.retry_helps:
        sentence += " The same request may succeed later."
    figures = {field.name: {"type": "integer" if field.type is int else "string"} for field in fields(refusal)}
    status = REFUSAL_STATUS[refusal]
    return {
        "title": refusal.__name__,
        "description": sentence,
        "allOf": [ref(ProblemBody)],
        "properties": {"code": {"const": refusal.code}, "status": {"const": status}, **figures},
        "required": list(figures),
    }
