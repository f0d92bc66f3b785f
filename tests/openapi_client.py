"""A client made from an OpenAPI document, and from nothing else: what the document does not say, it cannot do.

Each operation becomes a method of its operationId, each parameter an argument, and what is sent and answered is
checked against the document's schemas. `follow` takes a link of an answer to the operation that it leads to.
"""

import json
import re
from typing import Any, NamedTuple, NoReturn

import jsonschema_rs
import requests


class Answer(NamedTuple):
    operation: dict[str, Any]
    path: dict[str, Any]
    status: int
    headers: requests.structures.CaseInsensitiveDict
    body: Any


class Undocumented(AssertionError):
    """The service answered what its document does not say."""


class Client:
    """`credentials` has a secret for each of the document's security schemes that will be used."""

    def __init__(self, url: str, document: dict[str, Any], **credentials: str) -> None:
        self.url, self.document, self.credentials = url, document, credentials
        self.operations = {
            operation["operationId"]: (path, method, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        }

    def __getattr__(self, operation_id: str) -> Any:
        if operation_id not in self.operations:
            raise AttributeError(f"the document has no operation {operation_id}")
        return lambda body=None, **arguments: self.call(operation_id, body, arguments)

    def call(self, operation_id: str, body: Any, arguments: dict[str, Any]) -> Answer:
        path, method, operation = self.operations[operation_id]
        sent: dict[str, dict[str, Any]] = {"path": {}, "query": {}, "header": {}}
        for parameter in operation["parameters"]:
            value = arguments.pop(argument_name(parameter["name"]), None)
            if value is not None:
                self._check(value, parameter["schema"])
                sent[parameter["in"]][parameter["name"]] = text(value)
            elif parameter["required"]:
                raise TypeError(f"{operation_id} needs {parameter['name']}")
        if arguments:
            raise TypeError(f"{operation_id} has no {sorted(arguments)}")
        content = self._content(operation, body)
        response = requests.request(
            method,
            self.url + path.format(**sent["path"]),
            params=sent["query"],
            headers=sent["header"] | self.authorization(operation) | content["headers"],
            data=content["data"],
            timeout=60,
        )
        return self._checked(operation, sent["path"], response)

    def follow(self, answer: Answer, link: str, body: Any = None, **arguments: Any) -> Answer:
        """The operation that `link` of an answer leads to; `body` goes over what the link says of it."""
        links = answer.operation["responses"][str(answer.status)].get("links", {})
        target = links[link]
        given = {
            argument_name(name.rpartition(".")[2]): evaluate(expression, answer)
            for name, expression in target.get("parameters", {}).items()
        }
        if "requestBody" in target:
            body = evaluate(target["requestBody"], answer) | (body or {})
        return self.call(target["operationId"], body, given | arguments)

    def authorization(self, operation: dict[str, Any]) -> dict[str, str]:
        for requirement in operation["security"]:
            (name,) = requirement
            scheme = self.document["components"]["securitySchemes"][name]
            assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
            return {"Authorization": f"Bearer {self.credentials[name]}"}
        return {}

    def _content(self, operation: dict[str, Any], body: Any) -> dict[str, Any]:
        if "requestBody" not in operation:
            assert body is None, "the operation takes no body"
            return {"headers": {}, "data": None}
        ((media, content),) = operation["requestBody"]["content"].items()
        if media == "application/json":
            self._check(body, content["schema"])
            data = json.dumps(body).encode()
        else:
            lines = body.splitlines()
            for line in lines:
                self._check(json.loads(line), content["schema"]["contentSchema"])
            data = body.encode()
        return {"headers": {"Content-Type": media}, "data": data}

    def _checked(self, operation: dict[str, Any], path: dict[str, Any], response: requests.Response) -> Answer:
        def wrong(what: object) -> NoReturn:
            raise Undocumented(
                f"{operation['operationId']} answered {response.status_code}: {what}\n{response.text[:2000]}"
            )

        documented = operation["responses"].get(str(response.status_code))
        if documented is None:
            wrong("this status is not in the document")
        for name, reference in documented.get("headers", {}).items():
            header = self.document["components"]["headers"][reference["$ref"].rpartition("/")[2]]
            if name in response.headers:
                self._check(response.headers[name], header["schema"])
        body = None
        if "content" in documented:
            ((media, content),) = documented["content"].items()
            if response.headers.get("Content-Type") != media:
                wrong(f"the document says {media}")
            lines = "contentSchema" in content["schema"]
            schema = content["schema"]["contentSchema"] if lines else content["schema"]
            body = [json.loads(line) for line in response.text.splitlines()] if lines else response.json()
            for value in body if lines else [body]:
                try:
                    self._check(value, schema)
                except jsonschema_rs.ValidationError as error:
                    wrong(error)
        elif response.content:
            wrong("the document says there is no body")
        return Answer(operation, path, response.status_code, response.headers, body)

    def _check(self, value: Any, schema: dict[str, Any]) -> None:
        validator(self.document, schema).validate(value)


def validator(document: dict[str, Any], schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """OpenAPI 3.1 takes its schemas from JSON Schema 2020-12; a reference is to a place in the document."""
    whole = schema | {"components": document["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def argument_name(parameter: str) -> str:
    return parameter.lower().replace("-", "_")


def text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def evaluate(expression: Any, answer: Answer) -> Any:
    """An OpenAPI runtime expression, or a value that has such in it."""
    if isinstance(expression, dict):
        return {name: evaluate(value, answer) for name, value in expression.items()}
    if not isinstance(expression, str) or not expression.startswith("$"):
        return expression
    if expression.startswith("$request.path."):
        return answer.path[expression.removeprefix("$request.path.")]
    found = re.fullmatch(r"\$response\.body#(/.+)", expression)
    assert found, f"{expression} is no expression of OpenAPI 3.1"
    value = answer.body
    for name in found[1].split("/")[1:]:
        value = value[name]
    return value
