"""`GET /docs`: /openapi.json as a page to read. No script, nothing from elsewhere: it works offline."""

from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from html import escape
from typing import Any, Final

import falcon.asgi

from api.openapi import document

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --get: #0a7d55; --post: #9a5b00; --put: #5b45c9;
  --delete: #b3261e; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 60rem; font: 16px/1.5 system-ui, sans-serif; }
code, pre { font: 13px/1.5 ui-monospace, monospace; }
pre { background: var(--soft); padding: .75rem; border-radius: 6px; overflow-x: auto; }
nav ul { list-style: none; padding: 0; columns: 22rem; }
nav a { text-decoration: none; color: inherit; } nav a:hover { text-decoration: underline; }
section { border-top: 1px solid var(--line); margin-top: 2rem; }
h2 { font-size: 1.15rem; margin-bottom: .25rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; }
td, th { border-bottom: 1px solid var(--line); padding: .3rem .6rem .3rem 0; vertical-align: top; }
b { display: inline-block; min-width: 3.7rem; font: 600 13px ui-monospace, monospace; }
.get { color: var(--get); } .post { color: var(--post); }
.put { color: var(--put); } .delete { color: var(--delete); }
@media (prefers-color-scheme: dark) {
  :root { --get: #4cc38a; --post: #f1a10d; --put: #a597ff; --delete: #ff8a80; }
}
"""


class Docs:
    """`GET /docs`."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.content_type = falcon.MEDIA_HTML
        hashed = b64encode(sha256(_STYLE.encode()).digest()).decode()
        policy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        resp.set_header("Content-Security-Policy", f"{policy}; style-src 'sha256-{hashed}'")
        resp.data = page()


@cache
def page() -> bytes:
    api = document()
    operations = [
        (path, method, operation)
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
    ]
    links = "".join(
        f'<li><a href="#{operation["operationId"]}">{_title(path, method)}</a></li>'
        for path, method, operation in operations
    )
    schemas = api["components"]["schemas"]
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Credit Ledger: the API</title><style>{_STYLE}</style>",
        f"<h1>Credit Ledger: the API</h1><p>{escape(api['info']['description']).replace('`', '')}</p>",
        '<p>The same for programs: <a href="/openapi.json">/openapi.json</a> (OpenAPI 3.1).</p>',
        f"<nav><ul>{links}</ul></nav>",
        *(_section(path, method, operation) for path, method, operation in operations),
        "<section><h2>What is sent and answered</h2></section>",
        *(_schema(name, schema) for name, schema in schemas.items()),
        "</html>",
    ]
    return "".join(parts).encode()


def _title(path: str, method: str) -> str:
    return f'<b class="{method}">{method.upper()}</b> <code>{escape(path)}</code>'


def _section(path: str, method: str, operation: dict[str, Any]) -> str:
    who = operation.get("description") or (
        "Needs a user's token." if operation["security"] else "For somebody who logs in."
    )
    rows = [
        (
            f"<code>{parameter['name']}</code>",
            parameter["in"] + (", required" if parameter["required"] else ""),
            f"{escape(parameter['description'])} {_kind(parameter['schema'])}",
        )
        for parameter in operation["parameters"]
    ]
    body = operation.get("requestBody")
    if body is not None:
        rows += [("body", media, _kind(content["schema"])) for media, content in body["content"].items()]
    answers = []
    for status, response in operation["responses"].items():
        content = next(iter(response.get("content", {}).values()), None)
        kind = _kind(content["schema"]) if content and int(status) < 300 else ""
        answers.append((f"<code>{status}</code>", escape(response["description"]), kind))
    return (
        f'<section id="{operation["operationId"]}"><h2>{_title(path, method)}</h2>'
        f"<p>{escape(operation['summary'])}. {escape(who)}</p>{_table(rows)}{_table(answers)}</section>"
    )


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    cells = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{cells}</table>" if rows else ""


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = [
        (
            f"<code>{escape(field)}</code>",
            "required" if field in required else "",
            f"{escape(kind.get('description', ''))} {_kind(kind)}",
        )
        for field, kind in schema.get("properties", {}).items()
    ]
    about = escape(schema.get("description", "")).replace("`", "")
    return f'<section id="{name}"><h2><code>{name}</code></h2><p>{about}</p>{_table(rows)}</section>'


def _kind(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{name}"><code>{name}</code></a>'
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"a list of {_kind(schema.get('items', {}))}"
    words = [schema.get("format") or schema.get("type") or ""]
    if "minimum" in schema or "maximum" in schema:
        words.append(f"{schema.get('minimum', '')} to {schema.get('maximum', '')}")
    if "pattern" in schema:
        words.append(f"<code>{escape(schema['pattern'])}</code>")
    return " ".join(words)
