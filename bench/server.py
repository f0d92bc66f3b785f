"""A server under load, the product or a contender, and wrk, the closed loop that loads it."""

import http.client
import math
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.machine import Failed, awaits, children, memory_mib, started
from bench.open_loop import ask_all, get, post

_START_TIMEOUT_S: Final = 120
_IN_FLIGHT_S: Final = 0.1
_PATIENCE_S: Final = 10


class Load(msgspec.Struct, forbid_unknown_fields=True):
    """What wrk counted in one run; latencies in microseconds; `sent` is what it asked for, by kind."""

    requests: int
    duration_us: int
    p50_us: int
    p99_us: int
    not_2xx: int
    no_token: int
    socket_errors: int
    sent: dict[str, int]

    @property
    def per_second(self) -> float:
        return self.requests * 1e6 / self.duration_us


class Person(msgspec.Struct, frozen=True):
    """Somebody that wrk acts for; of a person whose statement is read, `token` is the number of events."""

    user: str
    openid: str
    token: str


class Server:
    """A running server: `people` and `api_key` are set by whoever made its data.

    `least` and `most` are how much of each kind it must have done by now, and can have: when wrk stops, a
    request on each connection is in flight, and nobody knows whether it was done.
    """

    api_key: str
    people: dict[str, Path]

    def __init__(
        self,
        name: str,
        works: tuple[str, ...],
        port: int,
        process: "subprocess.Popen[Any]",
        data: Path,
        log_path: Path,
    ) -> None:
        self.name = name
        self.works = works
        self.port = port
        self.process = process
        self.data = data
        self.log_path = log_path
        self.people = {}
        self.openids: list[str] = []
        self.tokens: list[str] = []
        self.least: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self._runs = 0

    @property
    def _word(self) -> str:
        """For codes that no other server has sent: they all ask one stand-in, and a code works once."""
        return f"{self.name.replace('-', '')}{self.port}r"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_until_it_answers(self) -> None:
        """`GET /credit` with no known token, which every server has an answer to."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_START_TIMEOUT_S)
            try:
                connection.request("GET", "/credit?token=nobody")
                if connection.getresponse().status == 200:
                    return
            except (ConnectionError, http.client.HTTPException):
                time.sleep(0.01)
            finally:
                connection.close()
        said = self.log_path.read_text(errors="replace")[-4000:]
        raise Failed(f"{self.name} did not start:\n{said}")

    def log_in(self, users: list[tuple[str, str]]) -> None:
        """Log in these users, given with their openids, through the front door; then they are the people."""
        codes = [f'{{"code":"dev-{user}-{self._word}"}}'.encode() for user, _ in users]
        answers = ask_all(self.port, [post("/login", code) for code in codes])
        tokens = [msgspec.json.decode(answer)["token"] for answer in answers]
        everybody = [Person(*user, token) for user, token in zip(users, tokens, strict=True)]
        self.live_with({"everybody": everybody}, self.data.parent)

    def live_with(self, people: dict[str, list[Person]], directory: Path) -> None:
        """Have wrk act for these people; "everybody" are those who can ask for their credit."""
        for group, persons in people.items():
            path = directory / f"{self.name}-{group}"
            path.write_text("".join(f"{one.user} {one.openid} {one.token}\n" for one in persons))
            self.people[group] = path
        self.openids = [person.openid for person in people["everybody"]]
        self.tokens = [person.token for person in people["everybody"]]

    def credit_of_all(self) -> int:
        """The credit of everybody together, as `GET /credit` answers it to each."""
        answers = ask_all(self.port, [get(f"/credit?token={token}") for token in self.tokens])
        return sum(int(msgspec.json.decode(answer)["credit"]) for answer in answers)

    def load(self, work: str, seconds: float, connections: int) -> Load:
        """One run of wrk, or Failed when a single request of it was.

        A run that ends before its first answer says nothing, and is made again for four times as long.
        """
        self._runs += 1
        group = {"spend": "savers", "hold": "savers", "page": "long"}.get(work, "everybody")
        who = self.people.get(group, self.people["everybody"])
        load = wrk(self.url, work, f"{self._word}{self._runs}", who, self.api_key, seconds, connections)
        for kind, count in load.sent.items():
            self.count(kind, count - connections - 1, count)  # wrk makes up one request and never sends it
        return load if load.requests else self.load(work, seconds * 4, connections)

    def count(self, kind: str, least: int, most: int) -> None:
        self.least[kind] = self.least.get(kind, 0) + max(0, least)
        self.most[kind] = self.most.get(kind, 0) + most

    def check_credit(self, before: int) -> None:
        """Failed unless everybody's credit grew by the grants and shrank by the spends that were answered."""
        growth = self.credit_of_all() - before
        least = self.least.get("grant", 0) - self.most.get("spend", 0)
        most = self.most.get("grant", 0) - self.least.get("spend", 0)
        if not least <= growth <= most:
            raise Failed(f"{self.name}: credit grew by {growth}, of its answers {least} to {most} follow")

    def largest_memory_mib(self) -> float:
        """RSS of the largest process."""
        family = [self.process.pid, *children(self.process.pid)]
        return max(memory_mib(pid)[0] for pid in family)


def wrk(url: str, work: str, run: str, people: Path, api_key: str, seconds: float, connections: int) -> Load:
    """One run of wrk; Failed when a single answer of it was no success, or none came in 10 seconds.

    `seconds` may be a fraction; in so short a run there may be no answer.
    """
    threads = min(2, connections)
    shape = [f"-t{threads}", f"-c{connections}", f"-d{math.ceil(seconds) + 60}", "--timeout", "10"]
    command = ["wrk", *shape, "-s", "bench/wrk.lua", url, "--", work, run, str(people), api_key]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        # Before it has a handler the signal would kill it, and between that and its sleep nobody would hear it.
        while process.poll() is None and not awaits(process.pid, signal.SIGINT):
            time.sleep(0.001)
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)  # ends and reports, as it does by itself after whole seconds
        output = process.communicate(timeout=30)[0].decode(errors="replace")
    _, found, result = output.partition("\nresult ")
    if process.returncode or not found:
        raise Failed(f"wrk failed:\n{output}")
    load = msgspec.json.decode(result, type=Load)
    if load.not_2xx or load.no_token or load.socket_errors or (not load.requests and seconds >= _PATIENCE_S):
        raise Failed(
            f"{work}, {connections} connections: of {load.requests} answers {load.not_2xx} other than 2xx and"
            f" {load.no_token} without a token, {load.socket_errors} socket errors"
        )
    time.sleep(_IN_FLIGHT_S)  # what was still in flight belongs to no run
    return load
