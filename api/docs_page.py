"""`GET /docs`: /openapi.json as a page to read. No script, nothing from elsewhere: it works offline."""

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from html import escape
from typing import Any, Final

import falcon.asgi

from api.docs_style import STYLE
from api.openapi import document
from api.problems import PROBLEM_JSON
from ledger.events import EVENT_TYPES, MAX_CREDIT

_START: Final = """\
export CREDIT=http://127.0.0.1:3000
export KEY=ck_...     # credit-ledger key create shop --scope read --scope grant --scope spend
export TOKEN=...      # what POST /v1/sessions answers"""


class Docs:
    """`GET /docs`."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.content_type = falcon.MEDIA_HTML
        hashed = b64encode(sha256(STYLE.encode()).digest()).decode()
        policy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        resp.set_header("Content-Security-Policy", f"{policy}; style-src 'sha256-{hashed}'")
        resp.data = page()


@cache
def page() -> bytes:
    """The whole page."""
    api = document()
    schemas: dict[str, Any] = api["components"]["schemas"]
    refusals = {name: schema for name, schema in schemas.items() if "allOf" in schema}
    events = {name: schemas[name] for name in EVENT_TYPES}
    others = {name: schema for name, schema in schemas.items() if name not in events | refusals}
    chapters = (
        ("Events", "What is recorded, by <code>type</code>: never changed, never deleted.", events),
        ("Refusals", "What the ledger refuses, with the figures that it says why with.", refusals),
        ("What is sent and answered", "An optional field can be left out.", others),
    )
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Credit Ledger: the API</title><style>{STYLE}</style></head><body>",
        *_contents(api, [title for title, _, _ in chapters]),
        "<main><h1>Credit Ledger: the API</h1>",
        *(f"<p>{_prose(paragraph)}</p>" for paragraph in api["info"]["description"].split("\n\n")),
        '<p>The same for programs: <a href="/openapi.json">/openapi.json</a> (OpenAPI 3.1).</p>',
        f"<h4>For the examples</h4><pre>{escape(_START)}</pre>",
    ]
    for tag in api["tags"]:
        parts.append(
            f'<h2 id="tag-{tag["name"]}">{tag["name"]}</h2><p class="dim">{_prose(tag["description"])}</p>'
        )
        parts += [_operation(*each, api) for each in _operations(api) if tag["name"] in each[2]["tags"]]
    for title, about, named in chapters:
        parts.append(f'<h2 id="{_slug(title)}">{title}</h2><p class="dim">{about}</p>')
        if named is refusals:
            parts.append(f"<table>{''.join(_refusal(schema) for schema in refusals.values())}</table>")
        else:
            parts += [_schema(name, schema) for name, schema in named.items()]
    return "".join([*parts, "</main></body></html>"]).encode()


def _operations(api: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _contents(api: dict[str, Any], chapters: list[str]) -> Iterator[str]:
    yield '<nav aria-label="Contents"><p class="name">Credit Ledger</p>'
    for tag in api["tags"]:
        yield f'<h2><a href="#tag-{tag["name"]}">{tag["name"]}</a></h2><ul>'
        for path, method, operation in _operations(api):
            if tag["name"] in operation["tags"]:
                title = f"{_method(method)}<code>{path.removeprefix('/v1').replace('/', '<wbr>/')}</code>"
                yield f'<li><a href="#{operation["operationId"]}">{title}</a></li>'
        yield "</ul>"
    yield "<h2>The rest</h2><ul>"
    yield from (f'<li class="plain"><a href="#{_slug(title)}">{title}</a></li>' for title in chapters)
    yield "</ul></nav>"


def _operation(path: str, method: str, operation: dict[str, Any], api: dict[str, Any]) -> str:
    who = operation.get("description") or (
        "Needs a user's token." if operation["security"] else "For somebody who logs in."
    )
    parts = [
        f'<section id="{operation["operationId"]}"><h3>{_method(method)} <code>{path}</code></h3>',
        f'<p>{_prose(operation["summary"])}. <span class="dim">{_prose(who)}</span></p>',
        f"<pre>{escape(_curl(path, method, operation))}</pre>",
        _table("Parameters", (_parameter(each) for each in operation["parameters"])),
    ]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        parts.append(_table(f"Body: {_kind(content['schema'])}", _fields(content["schema"], api)))
    for status, response in operation["responses"].items():
        if status == "200" and "201" in operation["responses"]:
            parts.append(f"<p>200: {_prose(response['description'])}</p>")  # in the shape of the 201
        elif int(status) < 300:
            parts.append(_answer(status, response, api))
    return "".join([*parts, *_refusals(operation, api), "</section>"])


def _refusals(operation: dict[str, Any], api: dict[str, Any]) -> Iterator[str]:
    """What the ledger refuses, and apart from it what every operation may say of a request."""
    refusals, common = [], []
    for status, response in operation["responses"].items():
        schema = response.get("content", {}).get(PROBLEM_JSON, {}).get("schema", {"anyOf": []})
        for kind in schema.get("anyOf", [schema]):
            if "$ref" in kind:
                refusal = _resolved(kind, api)
                code = refusal["properties"]["code"]["const"]
                name = f'{status} <a href="#{refusal["title"]}"><code>{code}</code></a>'
                refusals.append((name, _prose(refusal["description"])))
            else:
                for each in kind["properties"]["code"]["oneOf"]:
                    common.append((f"{status} <code>{each['const']}</code>", _prose(each["description"])))
    yield _table("Refused with", refusals)
    yield f"<details><summary>{len(common)} more codes</summary>{_table('', common)}</details>"


def _answer(status: str, response: dict[str, Any], api: dict[str, Any]) -> str:
    schema = next((content["schema"] for content in response.get("content", {}).values()), None)
    title = f"<h4>Answer {status}{': ' + _kind(schema) if schema else ''}</h4>"
    headers = [name for name in response["headers"] if name != "X-Request-ID"]
    rows = list(_fields(schema, api)) if schema else []
    for name in headers:
        about = api["components"]["headers"][name]["description"]
        rows.append((f"<code>{name}</code><small>header</small>", _prose(about)))
    links = ", ".join(
        f'<a href="#{link["operationId"]}">{name}</a>' for name, link in response.get("links", {}).items()
    )
    then = f"<p>Links: {links}.</p>" if links else ""
    return f'{title}<p class="dim">{_prose(response["description"])}</p><table>{_rows(rows)}</table>{then}'


def _curl(path: str, method: str, operation: dict[str, Any]) -> str:
    """The request as a line for a shell, with what it must have and an example of a body."""
    filled = path
    words = [f"curl -X {method.upper()}"] if method != "get" else ["curl"]
    headers = []
    for requirement in operation["security"]:
        headers.append('"Authorization: Bearer $' + ("KEY" if "key" in requirement else "TOKEN") + '"')
    for parameter in operation["parameters"]:
        if parameter["required"]:
            example = parameter.get("example", parameter["schema"].get("examples", [""])[0])
            filled = filled.replace("{" + parameter["name"] + "}", str(example))
            if parameter["in"] == "header":
                headers.append(f"'{parameter['name']}: {example}'")
    body = []
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        headers.append(f"'Content-Type: {media}'")
        example = content["example"]
        sent = example if isinstance(example, str) else json.dumps(example, ensure_ascii=False)
        body = [f"--data-binary '{sent}'"]
    lines = [" ".join([*words, f'"$CREDIT{filled}"']), *(f"-H {header}" for header in headers), *body]
    return " \\\n  ".join(line.strip() for line in lines)


def _parameter(parameter: dict[str, Any]) -> tuple[str, str]:
    where = parameter["in"] + (", required" if parameter["required"] else "")
    name = f"<code>{parameter['name']}</code><small>{where}</small>"
    return name, f"{_prose(parameter['description'])} {_limits(parameter['schema'])}"


def _fields(schema: dict[str, Any], api: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """The fields of an object, and of the objects in it, each with its path."""
    resolved = _resolved(schema.get("contentSchema", schema), api)
    for name, field in resolved.get("properties", {}).items():
        inner = field.get("items", field)
        needed = "" if name in resolved.get("required", []) else "<small>optional</small>"
        yield f"<code>{before}{name}</code>{needed}", _field(field)
        if "$ref" in inner:
            yield from _fields(inner, api, f"{before}{name}{'[]' if 'items' in field else ''}.")


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = [
        (f"<code>{field}</code>" + ("" if field in required else "<small>optional</small>"), _field(kind))
        for field, kind in schema.get("properties", {}).items()
    ]
    about = _prose(schema.get("description", ""))
    return f'<section id="{name}"><h3><code>{name}</code></h3><p>{about}</p>{_table("", rows)}</section>'


def _refusal(schema: dict[str, Any]) -> str:
    """A row of the table of refusals: status and code, the sentence, and the figures."""
    constants = schema["properties"]
    figures = ", ".join(f"<code>{name}</code>" for name in schema["required"])
    return (
        f'<tr id="{schema["title"]}"><th scope="row">{constants["status"]["const"]} '
        f"<code>{constants['code']['const']}</code></th>"
        f'<td>{_prose(schema["description"])} <span class="dim">Figures: {figures}</span></td></tr>'
    )


def _field(field: dict[str, Any]) -> str:
    kinds = [kind for kind in field.get("anyOf", [field]) if kind != {"type": "null"}]
    about = field.get("description") or (kinds[0].get("description", "") if len(kinds) == 1 else "")
    return f"{_prose(about)} {_limits(field)}"


def _limits(schema: dict[str, Any]) -> str:
    return f'<span class="dim">{_kind(schema)}</span>'


def _kind(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{name}"><code>{name}</code></a>'
    if "contentSchema" in schema:
        return f"lines of {_kind(schema['contentSchema'])}"
    if len(schema.get("anyOf", [])) == len(EVENT_TYPES):
        return 'the facts of <a href="#events">an event</a>'
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if schema.get("enum") == sorted(EVENT_TYPES):
        return 'the name of <a href="#events">an event</a>'
    if "enum" in schema:
        return "one of " + ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"a list of {_kind(schema.get('items', {}))}"
    words = [schema.get("format") or schema.get("type") or ""]
    if "minimum" in schema or "maximum" in schema:
        most = "2^53-1" if schema.get("maximum") == MAX_CREDIT else schema.get("maximum", "")
        words.append(f"{schema.get('minimum', '')} to {most}")
    if "pattern" in schema:
        words.append(f"<code>{escape(schema['pattern'])}</code>")
    if schema.get("default") is not None:
        words.append(f"(<code>{json.dumps(schema['default'])}</code> without it)")
    return " ".join(words)


def _resolved(schema: dict[str, Any], api: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    found: dict[str, Any] = api["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def _table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    body = _rows(rows)
    return (f"<h4>{title}</h4>" if title else "") + f"<table>{body}</table>" if body else ""


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    return "".join(f'<tr><th scope="row">{name}</th><td>{about}</td></tr>' for name, about in rows)


def _method(method: str) -> str:
    return f'<span class="method {method}">{method.upper()}</span>'


def _slug(title: str) -> str:
    return title.lower().replace(" ", "-")


def _prose(text: str) -> str:
    """Text with `code` in it."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))
