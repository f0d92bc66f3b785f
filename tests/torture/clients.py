"""Clients over real HTTP: few accounts, many hands, mixed calls, and keys that are sent again."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from typing import Final

import msgspec

from ledger.commands import user_key
from scripts.sandbox_wechat import openid_of
from tests.torture.checker import unsettled
from tests.torture.history import UNKNOWN, Call, History
from tests.torture.round import Round
from tests.torture.wire import NotConnected, Request, Wire

_BACKOFF_S: Final = 0.05
_ATTEMPTS: Final = 10
_BACKEND: Final = {"grant": 5, "spend": 6, "hold": 3, "capture": 2, "release": 1, "reverse": 2}
_PERSON: Final = {"read": 4, "login": 2, "newcomer": 1, "checkin": 1}
_AGAIN: Final = {"again": 3, "other body": 1}
_WEIGHTS: Final = {**_BACKEND, **_PERSON, **_AGAIN}


class Clients:
    """Threads that call the service at `port`, and what they know of each other.

    `secret` is an API key's. `tokens` has the latest of each user. Each thread rests `pause_s` between calls.
    """

    def __init__(
        self, part: Round, port: int, secret: str, *, threads: int = 6, users: int = 4, pause_s: float = 0
    ) -> None:
        self._pause_s = pause_s
        self._part = part
        self._port = port
        self._secret = secret
        self.history = History(part)
        self.users = [f"user{number}" for number in range(users)]
        self.tokens: dict[str, str] = {}
        self._seeds = [part.random.getrandbits(64) for _ in range(threads)]
        self._names = iter(range(10**9))
        self._held: deque[tuple[str, int, int]] = deque(maxlen=50)
        self._spent: deque[tuple[str, int, int]] = deque(maxlen=50)
        self._sent: deque[Request] = deque(maxlen=40)
        self._requests: dict[tuple[str, str, str], Request] = {}
        self._stop = threading.Event()

    @property
    def as_backend(self) -> dict[str, str]:
        """The header of whoever has the API key."""
        return {"Authorization": f"Bearer {self._secret}"}

    def log_everybody_in(self, *, settling: bool = False) -> None:
        """A first token for each user; nothing can be asked of an account before."""
        wire = Wire(self._port)
        for user in self.users:
            self.log_in(wire, user, settling=settling)
        wire.close()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """All threads at work within."""
        self._stop.clear()
        seeds, self._seeds = self._seeds, [Random(seed).getrandbits(64) for seed in self._seeds]
        with ThreadPoolExecutor(len(seeds)) as pool:
            running = [
                pool.submit(self._run, f"client {number}", Random(seed)) for number, seed in enumerate(seeds)
            ]
            try:
                yield
            finally:
                self._stop.set()
        for client in running:
            client.result()

    def settle(self) -> None:
        """Try again, each with its key, whatever nobody knows the outcome of; and use every token."""
        self.log_everybody_in(settling=True)
        wire = Wire(self._port)
        for call in unsettled(self.history.calls):
            assert call.key is not None
            self._part.tally["unknown outcomes settled"] += 1
            self.send_until_known(wire, self._requests[call.openid, call.key, str(call.facts)], settling=True)
        self.use(wire, [call for call in self.history.calls if call.token is not None])
        wire.close()

    def use(self, wire: Wire, logins: list[Call]) -> None:
        """Show each token once more."""
        for call in logins:
            request = Request("read", call.openid, "/v1/me/credit", "", "GET")
            shown = wire.send("settler", request, call.token, settling=True)
            self.history.add(msgspec.structs.replace(shown, token=call.token))

    def send(self, wire: Wire, who: str, request: Request, *, settling: bool = False) -> Call | None:
        """Send it once; None where nobody listens. What it came to is known to all from here on."""
        if request.key is not None:
            self._requests[request.openid, request.key, str(request.facts)] = request
            if request.action != "probe":  # of which something is expected, so nobody else may try its key
                self._sent.append(request)
        token = self.tokens.get(request.user)
        secret = None if request.action == "login" else token if request.user else self._secret
        try:
            call = wire.send(who, request, secret, settling=settling)
        except NotConnected:
            return None
        self.history.add(call)
        if call.acknowledged:
            self._learn(request, call)
        return call

    def send_until_known(self, wire: Wire, request: Request, *, settling: bool = False) -> Call | None:
        """Send it, with its key, until an answer says what became of it; the last call, however it went."""
        call = None
        for _ in range(_ATTEMPTS):
            call = self.send(wire, "settler", request, settling=settling)
            if call is not None and call.outcome != UNKNOWN and call.code != "not-committed":
                break
            time.sleep(_BACKOFF_S)
        return call

    def log_in(self, wire: Wire, user: str, *, settling: bool = False) -> None:
        """With a new code for each attempt: one that was shown may be used up."""
        for _ in range(_ATTEMPTS):
            call = self.send(wire, "settler", self._login(user), settling=settling)
            if call is not None and call.acknowledged:
                return
            time.sleep(_BACKOFF_S)

    def _learn(self, request: Request, call: Call) -> None:
        if call.token is not None:
            self.tokens[request.user] = call.token
        elif request.action == "hold" and call.version is not None:
            self._held.append((call.openid, call.version, request.facts["amount"]))
        elif request.action in ("spend", "capture") and call.version is not None:
            self._spent.append((call.openid, call.version, request.facts["amount"]))

    def _run(self, who: str, chance: Random) -> None:
        wire = Wire(self._port)
        while not self._stop.is_set():
            listened = self.send(wire, who, self._choose(chance)) is not None
            self._stop.wait(self._pause_s if listened else _BACKOFF_S)
        wire.close()

    def _choose(self, chance: Random) -> Request:
        action = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        user = chance.choice(self.users)
        openid, amount = openid_of(user), chance.choice((1, 2, 5, 20, 10**6))
        if action in _AGAIN and self._sent:
            return _other_body(self._sent[-1]) if action != "again" else chance.choice(list(self._sent))
        if action == "read":
            return Request("read", openid, chance.choice(("/credit", "/v1/me/credit")), user, "GET")
        if action in ("login", "newcomer"):
            return self._login(user if action == "login" else f"new{next(self._names)}")
        if action == "checkin":
            return self._checkin(user)
        if action in ("capture", "release") and self._held:
            openid, hold, held = chance.choice(list(self._held))
            part = chance.randint(1, held)
            facts = {"hold": hold, "amount": part if action == "capture" else held}
            return self._write(action, openid, f"holds/{hold}/{action}", facts)
        if action == "reverse" and self._spent:
            openid, spend, spent = chance.choice(list(self._spent))
            return self._write(
                action, openid, "reversals", {"spend": spend, "amount": chance.randint(1, spent)}
            )
        if action in ("spend", "hold"):
            return self._write(action, openid, f"{action}s", {"amount": amount})
        return self._write("grant", openid, "grants", {"amount": min(amount, 20)})

    def _write(self, action: str, openid: str, path: str, facts: dict[str, int]) -> Request:
        key = f"{action}-{next(self._names)}"
        in_body = {name: value for name, value in facts.items() if name != "hold"}
        if action == "release":
            in_body = {}
        body = {**in_body, "reason": "torture"}
        return Request(
            action, openid, f"/v1/accounts/{openid}/{path}", "", "POST", body, key, key,
            {**facts, "reason": "torture"},
        )  # fmt: skip

    def _checkin(self, user: str) -> Request:
        key = f"checkin-{next(self._names)}"
        return Request(
            "checkin", openid_of(user), "/v1/me/checkin", user, "POST", None, key, user_key(key),
            {"reason": "checkin"},
        )  # fmt: skip

    def _login(self, user: str) -> Request:
        code = f"dev-{user}-{next(self._names)}"
        path = ("/login", "/v1/sessions")[next(self._names) % 2]
        return Request("login", openid_of(user), path, user, body={"code": code}, facts={"code": code})


def _other_body(request: Request) -> Request:
    """The same key for something else, which must never be granted."""
    if request.body is None or "amount" not in request.body:
        return request
    amount = {"amount": request.body["amount"] + 1}
    return msgspec.structs.replace(request, body=request.body | amount, facts=request.facts | amount)
