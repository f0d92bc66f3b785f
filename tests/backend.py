"""What the tests of `/v1`'s service routes share: an API key, a client that uses it, and accounts."""

import json
import secrets
import socket
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from typing import Any
from urllib.parse import urlencode

import requests

from api import access
from api.vault import open_signer
from ledger.commands import (
    Command,
    FreezeAccount,
    HoldCredit,
    RegisterUser,
    SpendCredit,
    Submission,
)
from ledger.committer import ledger_committer, microseconds_now
from ledger.execute import Outcome
from ledger.note import Verifier
from ledger.seal_file import SealFile, Stored
from ledger.sealer import make_seal
from tests.conftest import PATIENCE_S, Service

DAY_US = 86_400_000_000
# An end that a test waits for, and that a request is sure to come before, also on a busy machine.
SOON_US = 2_000_000
SCOPES = ("audit", "grant", "operate", "read", "spend")
ACTOR = "operator:tests"


def new_api_key(service: Service, *scopes: str, life_us: int = DAY_US) -> tuple[access.ApiKey, str]:
    """A new API key and its secret, made as the command line makes one: beside the running service."""
    now_us = microseconds_now()
    change = partial(
        access.create_key,
        name="tests",
        scopes=frozenset(scopes),
        now_us=now_us,
        expires_at_us=now_us + life_us,
    )
    return change_access(service, change)  # type: ignore[no-any-return]


def new_key(service: Service, *scopes: str, life_us: int = DAY_US) -> str:
    return new_api_key(service, *scopes, life_us=life_us)[1]


def change_access(service: Service, change: access.Change) -> Any:
    committer = access.access_committer(service.data / "access.db")
    try:
        (outcome,) = committer.commit([change])
    finally:
        committer.close()
    assert not isinstance(outcome, Exception), outcome
    return outcome


def happened(
    service: Service, *commands: Command, clock_us: Callable[[], int] = microseconds_now
) -> list[Outcome]:
    """Commit `commands` beside the running service, one transaction for all; none may be refused."""
    committer = ledger_committer(service.data / "ledger.db", clock_us=clock_us)
    try:
        outcomes = committer.commit([Submission(command, ACTOR, operator=True) for command in commands])
    finally:
        committer.close()
    bad = [outcome for outcome in outcomes if not isinstance(outcome, Outcome)]
    assert not bad, bad
    return [outcome for outcome in outcomes if isinstance(outcome, Outcome)]


def seal(service: Service) -> Stored | None:
    """Seal beside the running service what is not sealed yet."""
    data = service.data
    with closing(SealFile(data / "seals.db")) as file:
        origin = Verifier.of(file.vkey()).name
    signer = open_signer(data / "signing.key", origin)
    return make_seal(data / "ledger.db", data / "seals.db", signer, microseconds_now())


def new_openid() -> str:
    """28 characters, as WeChat's are."""
    return "o" + secrets.token_urlsafe(21)[:27].ljust(27, "x")


def new_account(service: Service, grant: int = 100) -> str:
    """The openid of a new account with `grant` credits: version 2, or 1 without any."""
    openid = new_openid()
    happened(service, RegisterUser(openid, grant))
    return openid


class Backend:
    """Another team's backend: it has an API key and calls `/v1` with it."""

    def __init__(self, service: Service, *scopes: str) -> None:
        self.service = service
        self.key, self.secret = new_api_key(service, *(scopes or SCOPES))
        self.actor = f"key:{self.key.id}"

    def headers(self, key: str | None = None) -> dict[str, str]:
        found = {"Authorization": f"Bearer {self.secret}"}
        return found if key is None else found | {"Idempotency-Key": key}

    def get(self, path: str, **query: Any) -> requests.Response:
        return requests.get(
            f"{self.service.url}/v1/accounts/{path}", query, headers=self.headers(), timeout=PATIENCE_S
        )

    def account(self, openid: str, **query: object) -> dict[str, Any]:
        answer = self.get(openid, **query)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def post(
        self,
        path: str,
        body: object,
        *,
        key: str | None = "",
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> requests.Response:
        """POST to `/v1/accounts/` + `path`; under a key of its own unless told which, None for none."""
        chosen = secrets.token_hex(8) if key == "" else key
        return requests.post(
            f"{self.service.url}/v1/accounts/{path}",
            params=query,
            json=body,
            headers=self.headers(chosen) | (headers or {}),
            timeout=PATIENCE_S,
        )

    def write(self, path: str, body: object, **options: Any) -> dict[str, Any]:
        """The answer to a write that must be recorded."""
        answer = self.post(path, body, **options)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def grant(self, openid: str, amount: int, **more: object) -> int:
        """Grant; returns the event's version."""
        return int(
            self.write(f"{openid}/grants", {"amount": amount, "reason": "gift", **more})["event"]["version"]
        )

    def spend(self, openid: str, amount: int) -> int:
        return int(self.write(f"{openid}/spends", {"amount": amount, "reason": "order"})["event"]["version"])

    def hold(self, openid: str, amount: int, **more: object) -> int:
        return int(
            self.write(f"{openid}/holds", {"amount": amount, "reason": "order", **more})["event"]["version"]
        )

    def freeze(self, openid: str) -> None:
        self.write(f"{openid}/freeze", {"reason": "asked for"})

    def events(self, openid: str, **query: object) -> list[dict[str, Any]]:
        """All of an account's events, page by page, newest first."""
        found: list[dict[str, Any]] = []
        before: dict[str, object] = {}
        while True:
            answer = self.get(f"{openid}/events", **query, **before)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found += page["events"]
            if page["next_before"] is None:
                return found
            before = {"before": page["next_before"]}


def unproved(answer: requests.Response) -> str:
    """The answer to a write without the proof in its receipt, which says with what else it was signed."""
    said = answer.json()
    for proof in ("place", "path", "note"):
        del said["receipt"][proof]
    return json.dumps(said)


def raw_request(
    method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes = b"", **query: object
) -> bytes:
    """A request as bytes, with exactly these headers beside Host and Content-Length."""
    address = path + ("?" + urlencode(query) if query else "")
    lines = [f"{method} {address} HTTP/1.1", "Host: tests", *(f"{name}: {value}" for name, value in headers)]
    if body or method in ("POST", "PUT"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def exchange(service: Service, request: bytes, host: str = "127.0.0.1") -> tuple[int, bytes]:
    """Send bytes as they are; the status and the body of the answer."""
    with socket.create_connection((host, service.port), timeout=PATIENCE_S) as client:
        client.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            piece = client.recv(65536)
            assert piece, answer
            answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        length = next(
            (
                int(line.split(b":")[1])
                for line in head.splitlines()
                if line.lower().startswith(b"content-length")
            ),
            0,
        )
        while len(body) < length:
            body += client.recv(65536)
        return int(head.split(b" ", 2)[1]), body


# Each write of `/v1/accounts`: its path behind the openid, and a body for an account made by `prepared`.
WRITES: dict[str, dict[str, Any]] = {
    "/grants": {"amount": 7, "reason": "gift", "expires_at": "2126-01-01T00:00:00Z"},
    "/spends": {"amount": 7, "reason": "order"},
    "/holds": {"amount": 7, "reason": "order", "deadline": "2126-01-01T00:00:00Z"},
    "/holds/3/capture": {"amount": 4, "reason": "shipped"},
    "/holds/3/release": {"reason": "cancelled"},
    "/reversals": {"spend": 4, "amount": 3, "reason": "refund"},
    "/revocations": {"grant": 2, "reason": "mistake"},
    "/freeze": {"reason": "asked for"},
    "/unfreeze": {"reason": "settled"},
}


def prepared(service: Service, path: str) -> str:
    """An account on which the write at `path` succeeds: 100 granted as event 2, then 5 held, then 5 spent."""
    openid = new_openid()
    more: list[Command] = [FreezeAccount(openid, "asked for", "p5")] if path == "/unfreeze" else []
    happened(
        service,
        RegisterUser(openid, 100),
        HoldCredit(openid, 5, "order", "p3"),
        SpendCredit(openid, 5, "order", "p4"),
        *more,
    )
    return openid
