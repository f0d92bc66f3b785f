"""A file that is damaged under a running service: who needs it is told so, and everybody else is served."""

import json
import os
import re
from collections.abc import Callable
from contextlib import closing

import requests

from ledger.sqlite import connect
from tests.backend import Backend
from tests.conftest import Service
from tests.test_operations import metric
from tests.test_seals_http import seal_now

PROBLEM = (503, "application/problem+json", "not-readable", "60")
OF_SEALS = ("/v1/seals", "/v1/seals/2", "/v1/seals/1/consistency/2", "/v1/me/proof", "ACCOUNT/proof")
OF_CREDIT = ("/credit", "/v1/me/credit", "/v1/me/events", "ACCOUNT", "ACCOUNT/events")
OF_ALL = (*OF_SEALS, *OF_CREDIT)
# One after another: what is done to a file, which reads cannot be answered then, and what the log says to do.
SEALS = [
    ("DELETE FROM crown", {"/v1/me/proof", "ACCOUNT/proof"}, r"seals\.db is damaged: .*: run .* --rebuild$"),
    ("DROP TABLE subtree", set(OF_SEALS) - {"/v1/seals"}, r"seals\.db (is damaged|cannot be read): .*"),
    (
        "UPDATE seal SET entry = 'x'",
        set(OF_SEALS),
        r"seals\.db is damaged, seal [12]: .*: restore the newest copy",
    ),
    ("DROP TABLE seal", set(OF_SEALS), r"seals\.db cannot be read: no such table: seal: restore the newest"),
]
LEDGER = [
    (
        "UPDATE account SET holds = '{'",
        {"/v1/me/credit", "/v1/me/events", "ACCOUNT", "ACCOUNT/events"},
        r"^an event or account row in ledger\.db is damaged: see credit-ledger audit$",
    ),
    (
        "UPDATE sqlite_master SET rootpage = 99999 WHERE name = 'account'",
        {*OF_CREDIT, "/v1/me/proof", "ACCOUNT/proof"},
        r"ledger\.db .*malformed.*(credit-ledger audit|restore)|cannot use .*ledger\.db: .*malformed",
    ),
]
ACCESS = [
    (
        "UPDATE sqlite_master SET rootpage = 99999 WHERE name = 'session'",
        {*OF_CREDIT, "/v1/me/proof", "ACCOUNT/proof"},
        r"^ledger\.db or access\.db cannot be read: .*malformed.*: see credit-ledger audit, and restore",
    )
]


class Caller:
    """Anna and a backend, and all that they read."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.backend = Backend(service)
        self.token = service.login("anna")
        self.openid = service.openid_of("anna")
        for other in ("ben", "ci", "dora"):
            service.login(other)
        seal_now(service)
        self.backend.write(f"{self.openid}/holds", {"amount": 5, "reason": "order"})
        seal_now(service)
        self.answered: list[tuple[str, int]] = []

    def refused(self) -> set[str]:
        """The reads that are told that a file cannot be read; all others are 200."""
        found = set()
        for path in OF_ALL:
            url = path.replace("ACCOUNT", f"/v1/accounts/{self.openid}")
            if path == "/credit":
                answer = self.service.get(f"{url}?token={self.token}")
            else:
                answer = self.service.get(url, self.backend.secret if "ACCOUNT" in path else self.token)
            if answer.status_code != 200:
                told = answer.json()
                assert told["detail"].endswith("its operator has to see to it.")
                kind, wait = answer.headers["Content-Type"], answer.headers["Retry-After"]
                assert (answer.status_code, kind, told["code"], wait) == PROBLEM, (path, told)
                found.add(path)
        return found

    def told(self, seen: int) -> list[str]:
        """What the log has told the operator since, in one line for each refusal."""
        lines = [json.loads(line) for line in self.service.log[seen:].splitlines()]
        told = [line for line in lines if line["event"] == "not read"]
        failed = [line["request_id"] for line in lines if line.get("status") == 503]
        assert [line["request_id"] for line in told] == failed
        assert {line["level"] for line in told} <= {"error"}
        return [line["error"] for line in told]


def damage(service: Service, name: str, statement: str) -> None:
    with closing(connect(service.data / name)) as connection:
        for (trigger,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute("PRAGMA ignore_check_constraints=ON")
        (version,) = connection.execute("PRAGMA schema_version").fetchone()
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(statement)
        if "sqlite_master" in statement:  # others then read it again
            connection.execute(f"PRAGMA schema_version={version + 1}")


def found(
    new_service: Callable[..., Service], name: str, steps: list[tuple[str, set[str], str]]
) -> tuple[Caller, int]:
    """Do all that to the file, and look at what is told; how many were refused in all."""
    service = new_service(workers=1)
    caller = Caller(service)
    assert caller.refused() == set()
    count = 0
    for statement, lost, advice in steps:
        damage(service, name, statement)
        seen = len(service.log)
        assert caller.refused() == lost, statement
        told = caller.told(seen)
        assert len(told) == len(lost)
        assert [text for text in told if not re.search(advice, text)] == [], statement
        count += len(lost)
    text = service.get("/metrics").text
    assert metric(text, "credit_requests_total", status="503") == count
    assert metric(text, "credit_requests_total", status="500") == 0
    assert "unexpected error" not in service.log
    assert caller.openid not in service.log
    return caller, count


def test_where_the_seals_are_damaged_credit_goes_on(new_service: Callable[..., Service]) -> None:
    caller, _ = found(new_service, "seals.db", SEALS)
    text = caller.service.get("/metrics").text
    assert metric(text, "credit_requests_total", route="/v1/seals", status="503") == 2
    assert metric(text, "credit_requests_total", route="/v1/seals", status="200") == 3
    done = caller.backend.write(f"{caller.openid}/grants", {"amount": 9, "reason": "gift"})
    assert "receipt" not in done


def test_where_the_ledger_is_damaged_the_seals_are_read(new_service: Callable[..., Service]) -> None:
    caller, _ = found(new_service, "ledger.db", LEDGER)
    answer = caller.backend.post(f"{caller.openid}/grants", {"amount": 9, "reason": "gift"})
    assert answer.status_code == 503
    line = f'{{"openid":"{caller.openid}","key":"k","amount":1,"reason":"gift"}}'
    headers = {**caller.backend.headers(), "Content-Type": "application/x-ndjson"}
    bulk = requests.post(f"{caller.service.url}/v1/grants", data=line, headers=headers, timeout=15)
    assert (bulk.status_code, bulk.json()["status"]) == (200, 503)
    assert "unexpected error" not in caller.service.log


def test_where_access_db_is_damaged_everybody_is_told(new_service: Callable[..., Service]) -> None:
    caller, _ = found(new_service, "access.db", ACCESS)
    assert caller.service.get("/healthz").status_code == 200


def test_a_service_whose_files_cannot_be_read_is_not_ready(new_service: Callable[..., Service]) -> None:
    service = new_service(workers=1)
    service.login("anna")
    os.truncate(service.data / "access.db-wal", 0)
    answer = service.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "not-ready")
    assert "unexpected error" not in service.log
