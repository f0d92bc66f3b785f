"""Who may do what: every route by every kind of caller, tricks to get in, and a search for secrets after it.

The table is in access_table.py. Each round asks for all of it once, in an order of chance, and goes on with
combinations of chance until its time is up; all along, tricks are mixed in.
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import quote

import requests

from api import access
from ledger.committer import microseconds_now
from ledger.sqlite import connect
from ledger.statement import Reader
from scripts.sandbox_wechat import SECRET, openid_of
from tests.conftest import Sandbox, Service
from tests.torture.access_http import Answer, Request, ask
from tests.torture.access_judge import OTHER_METHODS, Person, Seen, State, faults
from tests.torture.access_stage import TOKEN_LETTERS, Scene, Stage
from tests.torture.access_table import CALLERS, ROWS, YES, Row, documented, left_out, served
from tests.torture.access_tricks import tricks_for
from tests.torture.round import Round
from tests.torture.secret_search import Secrets, memory_of

_AT_ONCE: Final = 60
_KEY_FILES: Final = ("secret.key", "signing.key")
# What the first process reads itself: its settings, and the key files that it checks.
_KNOWN_TO_THE_MASTER: Final = {*_KEY_FILES, "AppSecret"}
_TRICKED: Final = 0.5  # of the combinations
_PAIRS_TIMED: Final = 100
# So much slower may a guess with a true beginning be than one without: far above the noise of a busy machine,
# far below what a comparison letter by letter in a list of sessions would take.
_SLOWER: Final = 1.5
_SLOWER_BY_S: Final = 0.001


def check_access(part: Round) -> None:
    """One round."""
    sandbox = Sandbox()
    service = Service(part.directory / "data", sandbox.url)
    service.environ |= {"CREDIT_RATE_LOGIN": "off", "CREDIT_RATE_TOKEN": "off", "CREDIT_RATE_KEY": "off"}
    try:
        service.start()
        _Access(part, service, sandbox).run()
    finally:
        service.stop()
        sandbox.stop()


class _Access:
    def __init__(self, part: Round, service: Service, sandbox: Sandbox) -> None:
        self._part = part
        self._service = service
        self._sandbox = sandbox
        self._secrets = Secrets()
        self._stage = Stage(service, part.random, self._secrets)
        # The first answer of each refusal at each route: all others must be the same.
        self._refusals: dict[tuple[str, str], Answer] = {}
        for name in _KEY_FILES:
            self._secrets.add(name, (service.data / name).read_text().strip())
        self._secrets.add("AppSecret", SECRET)

    def run(self) -> None:
        part = self._part
        self._routes()
        everything = [(row, caller) for row in ROWS for caller in CALLERS]
        part.random.shuffle(everything)
        while everything:
            self._ask_all(everything[:_AT_ONCE])
            del everything[:_AT_ONCE]
        self._time_guesses()
        while not part.over:
            self._ask_all([(part.random.choice(ROWS), part.random.choice(CALLERS)) for _ in range(_AT_ONCE)])
        self._search_memory()
        self._search("while it ran")
        part.expect(self._service.stop() == 0, "the service ended with a fault")
        part.expect("unexpected error" not in self._service.log, "the log has an unexpected error")
        self._compare_the_files()
        self._search("after its end")
        part.tally["secrets searched for"] += self._secrets.count

    def _routes(self) -> None:
        document = requests.get(f"{self._service.url}/openapi.json", timeout=20).json()
        for wrong in left_out(served() | documented(document)):
            self._part.expect(False, wrong)

    # -- the table -------------------------------------------------------------------------------------

    def _ask_all(self, pairs: list[tuple[Row, str]]) -> None:
        scenes = self._stage.set(pairs)
        data = self._service.data
        with (
            closing(Reader(data / "ledger.db")) as ledger,
            closing(access.open_access(data / "access.db", read_only=True)) as file,
        ):

            def state(person: Person) -> State:
                now_us = microseconds_now()
                standing = ledger.standing(person.openid, now_us)
                logged_in = access.find_session(file, person.token, now_us) is not None
                nickname = access.profile(file, person.openid).nickname
                return State(0 if standing is None else standing.version, logged_in, nickname)

            for scene in scenes:
                self._ask(scene, state)

    def _ask(self, scene: Scene, state: Callable[[Person], State]) -> None:
        """A combination, and often the same with tricks: before it those by which nothing may happen at all."""
        part = self._part
        request = self._with_credential(scene, self._stage.credential(scene))
        tricks: dict[str, Request] = {}
        if scene.caller == "other" or part.random.random() < _TRICKED:
            tricks = tricks_for(part.random, scene, request)
        for name in sorted(tricks.keys() & set(OTHER_METHODS)):
            self._send(scene, tricks.pop(name), state, name)
            part.tally["tricks sent"] += 1
        answer = self._send(scene, request, state)
        part.tally["combinations checked"] += 1
        if scene.row.answer_to(scene.caller) != YES:
            self._compare(scene, request, answer)
        for name, disguised in tricks.items():
            self._send(scene, disguised, state, name)
            part.tally["tricks sent"] += 1

    def _with_credential(self, scene: Scene, credential: str | None) -> Request:
        if credential is None:
            return scene.request
        if not scene.row.path.startswith("/v1") and self._part.random.random() < 0.5:
            return scene.request.with_query("token=" + quote(credential, safe=""))
        return scene.request.with_headers(("Authorization", f"Bearer {credential}"))

    def _send(
        self, scene: Scene, request: Request, state: Callable[[Person], State], trick: str = ""
    ) -> Answer:
        part, people = self._part, {person.name: person for person in (scene.subject, scene.owner)}
        before = {name: state(person) for name, person in people.items()}
        answer = ask(self._service.port, request)
        after = {name: state(person) for name, person in people.items()}
        for name, person in people.items():
            self._stage.versions[person.openid] = after[name].version
        seen = Seen(scene.row, scene.caller, scene.subject, scene.owner, answer, before, after, trick)
        broken = [*faults(seen), *self._given_away(seen, request)]
        for promise in broken:
            part.expect(False, promise)
        if broken:
            part.record(request=request, status=answer.status, told=answer.whole.decode("latin-1"))
        if isinstance(token := answer.told.get("token"), str):
            self._stage.noted("token", token)
            where = f"{self._sandbox.url}/sandbox/session_key"
            told = requests.get(where, {"user": scene.owner.name}, timeout=20).json()
            self._secrets.add("session_key", told["session_key"])
        return answer

    def _given_away(self, seen: Seen, request: Request) -> list[str]:
        """Secrets in an answer, but for those of the address, which whoever typed it may be told again."""
        found = self._secrets.found_in(seen.answer.whole)
        return [
            f"{seen} was told a secret ({kind})"
            for kind, secret in sorted(found)
            if secret not in request.target
        ]

    def _compare(self, scene: Scene, request: Request, answer: Answer) -> None:
        """Whoever has no right learns nothing: not what was wrong with his credential, nor who is there."""
        row, part = scene.row, self._part
        refusal = row.answer_to(scene.caller)
        first = self._refusals.setdefault((row.route, refusal), answer)
        if answer.comparable != first.comparable:
            told = f"{answer.comparable} and not {first.comparable}"
            part.expect(False, f"{scene.caller} at {row.route} is told apart from others: {told}")
        part.tally["refusals compared"] += 1
        if "{openid}" not in row.path:
            return
        missing = openid_of(f"p{part.random.getrandbits(48):012x}")
        nobody = ask(self._service.port, request.at(request.target.replace(scene.subject.openid, missing)))
        if nobody.comparable != answer.comparable:
            told = f"{nobody.comparable} and not {answer.comparable}"
            part.expect(False, f"{scene.caller} at {row.route} learns who has no account: {told}")
        part.tally["accounts guessed at"] += 1

    # -- time ------------------------------------------------------------------------------------------

    def _time_guesses(self) -> None:
        """A guess that begins as a live credential does takes as long as any other."""
        (scene,) = self._stage.set([(ROWS[2], "own")])
        for what, path, live in (
            ("token", "/v1/me", scene.subject.token),
            ("API key", f"/v1/accounts/{scene.subject.openid}", self._stage.master_key),
        ):

            def refused(credential: str, path: str = path) -> float:
                request = Request("GET", path, (("Authorization", f"Bearer {credential}"),))
                begun = time.perf_counter()
                answer = ask(self._service.port, request)
                taken = time.perf_counter() - begun
                self._part.expect(answer.status == 401, f"a guess at {path} was answered {answer.status}")
                return taken

            def near(live: str = live) -> str:
                return live[:-1] + other_letter(self._part.random, live[-1])

            def far(live: str = live) -> str:
                random = self._part.random
                head = f"ck_{random.getrandbits(48):012x}_" if live.startswith("ck_") else ""
                return head + "".join(random.choices(TOKEN_LETTERS, k=43))

            told_apart = timed_apart(lambda: refused(near()), lambda: refused(far()), _PAIRS_TIMED)
            self._part.expect(told_apart is None, f"the beginning of a live {what} can be timed: {told_apart}")
            self._part.tally["look-ups timed"] += 2 * _PAIRS_TIMED

    # -- what is left behind ---------------------------------------------------------------------------

    def _search_memory(self) -> None:
        """What a core file would hold. A worker has remnants of requests, which are counted and no fault."""
        assert self._service.process is not None
        master = self._service.process.pid
        for pid in (master, self._part.random.choice(self._service.worker_pids())):
            found: set[tuple[str, str]] = set()
            try:
                for piece in memory_of(pid):
                    found |= self._secrets.found_in(piece)
                    self._part.tally["bytes of memory searched"] += len(piece)
            except PermissionError:
                self._part.tally["processes whose memory may not be read"] += 1
                continue
            if pid == master:
                self._report(found, _KNOWN_TO_THE_MASTER, "in the memory of the master")
            else:
                kinds = Counter(kind for kind, _ in found)
                self._part.tally.update({f"{kind}s left in a worker's memory": kinds[kind] for kind in kinds})
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            self._report(self._secrets.found_in(command), set(), "in a command line")

    def _search(self, when: str) -> None:
        """All files of the service, and what it says to whoever asks for its counts."""
        data = self._service.data
        files = [self._service.log_path, *(path for path in sorted(data.rglob("*")) if path.is_file())]
        texts = {path.name: path.read_bytes() for path in files}
        if self._service.process is not None and self._service.process.poll() is None:
            texts["/metrics"] = requests.get(f"{self._service.url}/metrics", timeout=20).content
        for name, content in texts.items():
            # A key is in the file that is for it, which others may not read.
            self._report(self._secrets.found_in(content), {name}, f"in {name} {when}")
            if not name.endswith((".db", ".db-wal")):
                self._report(self._stage.names.found_in(content), set(), f"in {name} {when}")
            self._part.tally["bytes of files searched"] += len(content)
        for path in (data, *(data / name for name in _KEY_FILES)):
            self._part.expect(path.stat().st_mode & 0o077 == 0, f"{path.name} can be read by others")

    def _report(self, found: Iterable[tuple[str, str]], expected: set[str], where: str) -> None:
        kinds = Counter(kind for kind, _ in found if kind not in expected)
        for kind, count in sorted(kinds.items()):
            self._part.expect(False, f"{count} {kind}s can be read {where}")

    def _compare_the_files(self) -> None:
        """The ledger has what was answered and nothing else; access.db has hashes, of what was given out."""
        with closing(connect(self._service.data / "ledger.db", read_only=True)) as ledger:
            stored = dict(ledger.execute("SELECT openid, version FROM account"))
        for wrong in sorted(stored.items() ^ self._stage.versions.items()):
            self._part.expect(False, f"what the ledger says of an account is not what was answered: {wrong}")
        with closing(access.open_access(self._service.data / "access.db", read_only=True)) as file:
            for table, column in (
                ("session", "token_hash"),
                ("api_key", "key_hash"),
                ("presented_code", "code_hash"),
            ):
                kept = {bytes(row[0]) for row in file.execute(f"SELECT {column} FROM {table}")}
                strange = len(kept - self._stage.hashes)
                self._part.expect(
                    strange == 0, f"{strange} of {len(kept)} in {table} are no hash of what was given out"
                )
                self._part.tally["hashes compared"] += len(kept)


def other_letter(random: Random, letter: str) -> str:
    return random.choice(TOKEN_LETTERS.replace(letter, ""))


def timed_apart(near: Callable[[], float], far: Callable[[], float], pairs: int) -> str | None:
    """How the two can be told apart by the seconds that they say they took; None where they cannot."""
    taken = [(near(), far()) for _ in range(pairs)]
    near_s, far_s = (statistics.median(each) for each in zip(*taken, strict=True))
    if near_s <= far_s * _SLOWER + _SLOWER_BY_S:
        return None
    return f"{near_s * 1000:.2f} ms, and {far_s * 1000:.2f} ms for any other"
