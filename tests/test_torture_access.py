"""The torture suite's part `access`: a short round of it, and that each thing it checks is seen when broken."""

import os
import random
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

from api.problems import NOT_LOGGED_IN
from tests.torture.access import check_access, timed_apart
from tests.torture.access_http import Answer, Request
from tests.torture.access_judge import OTHER_METHODS, OTHER_PATHS, UNHEEDED, Person, Seen, State, faults
from tests.torture.access_stage import Scene, guesses, malformed
from tests.torture.access_table import CALLERS, ROWS, YES, Row, left_out, served
from tests.torture.access_tricks import TRICKS
from tests.torture.round import Round
from tests.torture.secret_search import Secrets, memory_of

TOKEN = "Zk3v_9aB" * 5 + "-xY"
KEY = "ck_0123456789ab_" + TOKEN
ALICE = Person("alice", "oAlice", "m0123456789abcdef", 123_456_789_012, TOKEN, b64encode(b"k" * 16).decode())
BOB = Person("bob", "oBob", "mfedcba9876543210", 198_765_432_109, TOKEN[::-1], b64encode(b"b" * 16).decode())
LIVE = State(4, True, "m0123456789abcdef")


def test_a_short_round_finds_nothing_broken(tmp_path: Path) -> None:
    part = Round("access", tmp_path, 0)
    check_access(part)
    assert part.broken == []
    assert part.tally["combinations checked"] == len(ROWS) * len(CALLERS)
    assert part.tally["tricks sent"] > 250
    assert part.tally["accounts guessed at"] > 150
    assert part.tally["refusals compared"] > 350
    assert part.tally["secrets searched for"] > 1000
    assert part.tally["bytes of files searched"] > 10_000_000
    assert part.tally["hashes compared"] > 500


# -- the table -----------------------------------------------------------------------------------------


def row(route: str) -> Row:
    (found,) = [row for row in ROWS if row.route == route]
    return found


def test_every_route_is_in_the_table_and_one_that_is_not_is_named() -> None:
    there = served()
    assert left_out(there) == []
    assert left_out(there | {"GET /v1/debug"}) == ["GET /v1/debug is in no row of the table"]
    assert left_out(there - {"GET /v1/me"}) == ["GET /v1/me is in the table and nowhere else"]


def test_the_table_says_for_each_caller_what_he_is_told() -> None:
    account, own, tutorial = row("GET /v1/accounts/{openid}"), row("GET /v1/me"), row("GET /credit")
    assert [
        account.answer_to(caller) for caller in ("read", "audit", "spend", "no-scope", "own", "revoked-key")
    ] == [
        *(YES, YES, "scope-missing", "scope-missing", "invalid-key", "invalid-key"),
    ]
    assert [own.answer_to(caller) for caller in ("own", "other", "nobody", "expired", "read")] == [
        *(YES, YES, "not-logged-in", "not-logged-in", "not-logged-in"),
    ]
    assert tutorial.answer_to("guessed") == "err"
    assert all(row("GET /healthz").answer_to(caller) == YES for caller in CALLERS)


# -- the judge -----------------------------------------------------------------------------------------


def problem(status: int, code: str) -> Answer:
    body = msgspec.json.encode({"code": code})
    return Answer(status, (("content-type", "application/problem+json"),), body)


def told(value: object, status: int = 200) -> Answer:
    return Answer(status, (("content-type", "application/json"),), msgspec.json.encode(value))


def seen(route: str, caller: str, answer: Answer, after: State = LIVE, trick: str = "") -> Seen:
    """A request about Alice; `other` is Bob, on whose account nothing happens."""
    owner = BOB if caller == "other" else ALICE
    before = {person.name: LIVE for person in (ALICE, owner)}
    return Seen(row(route), caller, ALICE, owner, answer, before, before | {"alice": after}, trick)


RIGHT: list[Seen] = [
    seen("GET /v1/me", "own", told({"nickname": ALICE.mark})),
    seen("GET /v1/me", "other", told({"nickname": BOB.mark})),
    seen("GET /v1/me", "nobody", problem(401, "not-logged-in")),
    seen("GET /credit", "expired", told({"err": NOT_LOGGED_IN})),
    seen("GET /checklogin", "erased", told({"is_login": False})),
    seen("GET /v1/accounts/{openid}", "spend", problem(403, "scope-missing")),
    seen("POST /v1/accounts/{openid}/spends", "spend", told({}, 201), State(5, True, LIVE.nickname)),
    seen("POST /v1/me/checkin", "own", told({}, 201), State(6, True, LIVE.nickname)),
    seen("DELETE /v1/sessions", "own", Answer(204), State(4, False, LIVE.nickname)),
    seen("PUT /v1/me/profile", "own", told({}), State(4, True, ALICE.mark + "x")),
    seen("GET /v1/me", "nobody", told({}, 404), trick="capitals"),
    seen("GET /healthz", "nobody", Answer(400), trick="an upgrade"),
]
WRONG: dict[str, Seen] = {
    "a guess is let in": seen("GET /v1/me", "guessed", told({"nickname": ALICE.mark})),
    "a status of its own": seen("GET /v1/me", "expired", problem(404, "not-found")),
    "a code of its own": seen("GET /v1/me", "expired", problem(401, "session-expired")),
    "an error that is no problem": seen("GET /v1/me", "nobody", told({"code": "not-logged-in"}, 401)),
    "a key without the scope": seen("GET /v1/accounts/{openid}", "grant", told({"holds": ALICE.mark})),
    "a dead key is told that it is known": seen(
        "GET /v1/accounts/{openid}", "revoked-key", problem(403, "scope-missing")
    ),
    "nobody is logged in": seen("GET /checklogin", "malformed", told({"is_login": True})),
    "the err of another status": seen("GET /credit", "nobody", told({"err": NOT_LOGGED_IN}, 401)),
    "whoever may is refused": seen("GET /v1/me", "own", problem(401, "not-logged-in")),
    "he is shown somebody else": seen("GET /v1/me", "other", told({"nickname": ALICE.mark})),
    "he is shown another's credit": seen("GET /credit", "other", told({"credit": ALICE.credit})),
    "a refusal with the account in it": seen(
        "GET /v1/accounts/{openid}",
        "no-scope",
        Answer(
            403,
            (("content-type", "application/problem+json"),),
            msgspec.json.encode({"code": "scope-missing", "was": ALICE.mark}),
        ),
    ),
    "refused, and done": seen(
        "POST /v1/accounts/{openid}/grants",
        "spend",
        problem(403, "scope-missing"),
        State(5, True, LIVE.nickname),
    ),
    "answered, and not done": seen("POST /v1/accounts/{openid}/grants", "grant", told({}, 201)),
    "done twice": seen(
        "POST /v1/accounts/{openid}/grants", "grant", told({}, 201), State(6, True, LIVE.nickname)
    ),
    "another is logged out": seen("DELETE /v1/sessions", "other", Answer(204), State(4, False, LIVE.nickname)),
    "nobody logs somebody out": seen(
        "DELETE /v1/sessions", "nobody", problem(401, "not-logged-in"), State(4, False, LIVE.nickname)
    ),
    "another is named": seen("PUT /v1/me/profile", "other", told({}), State(4, True, "stolen")),
    "a profile that is not his own": seen(
        "POST /userinfo", "own", told({"pass": True}), State(4, True, "stolen")
    ),
    "a fault": seen("GET /v1/me", "nobody", told({}, 500), trick="capitals"),
    "let in by a trick": seen("GET /checklogin", "nobody", told({"is_login": True}), trick="two credentials"),
    "logged in by a trick": seen("GET /credit", "nobody", told({"token": TOKEN}), trick="another method"),
    "a profile by a trick": seen("POST /userinfo", "nobody", told({"pass": True}), trick="two credentials"),
    "shown by a trick": seen("GET /v1/me", "nobody", told({"nickname": ALICE.mark}), trick="dot dot"),
    "written by a trick": seen(
        "POST /v1/accounts/{openid}/spends", "read", told({}, 404), State(5, True, LIVE.nickname), "capitals"
    ),
    "a write by a reading method": seen(
        "DELETE /v1/sessions",
        "own",
        Answer(204),
        State(4, False, LIVE.nickname),
        OTHER_METHODS[1],
    ),
    "a hint that a credential in a wrong place is good": seen(
        "GET /v1/me", "nobody", problem(400, "unknown-parameter"), trick=UNHEEDED[2]
    ),
    "a second path": seen("GET /v1/me", "own", told({"nickname": ALICE.mark}), trick=OTHER_PATHS[0]),
}


@pytest.mark.parametrize("right", RIGHT, ids=str)
def test_what_the_table_says_is_no_fault(right: Seen) -> None:
    assert list(faults(right)) == []


@pytest.mark.parametrize("what", WRONG)
def test_whatever_else_happens_is_a_fault(what: str) -> None:
    assert list(faults(WRONG[what])), what


def test_what_differs_in_every_answer_tells_nobody_apart() -> None:
    answer = Answer(401, (("date", "Mon"), ("X-Request-ID", "a"), ("content-length", "1")), b"x")
    later = Answer(401, (("date", "Tue"), ("x-request-id", "b"), ("content-length", "1")), b"x")
    assert answer.comparable == later.comparable
    for other in (Answer(404, later.headers, b"x"), Answer(401, later.headers, b"y"), Answer(401, (), b"x")):
        assert answer.comparable != other.comparable


# -- guesses and tricks --------------------------------------------------------------------------------


def test_no_guess_is_the_token() -> None:
    chance = random.Random(1)
    for _ in range(300):
        guessed = guesses(chance, TOKEN)
        assert TOKEN not in guessed
        assert {len(guess) for guess in guessed} == {len(TOKEN)}
        assert TOKEN not in malformed(chance, TOKEN, KEY)


@pytest.mark.parametrize("name", TRICKS)
def test_every_trick_is_one_for_some_scene(name: str) -> None:
    chance = random.Random(1)
    for each in ROWS:
        scene = Scene(
            each,
            "other",
            ALICE,
            BOB,
            Request(each.method, each.path.format(openid="o", hold=3, seal=1, later=1)),
            TOKEN,
        )
        request = scene.request.with_headers(("Authorization", "Bearer undefined"))
        if TRICKS[name](chance, scene, request) not in (None, request):
            return
    raise AssertionError(name)


# -- time ----------------------------------------------------------------------------------------------


def test_only_what_takes_much_longer_is_told_apart() -> None:
    chance = random.Random(1)

    def usual() -> float:
        return chance.choice([0.002, 0.0022, 0.0019, 0.05])  # seconds: a busy machine holds up one in four

    assert timed_apart(usual, usual, 100) is None
    slower = timed_apart(lambda: usual() + 0.004, usual, 100)
    assert slower is not None
    assert "ms for any other" in slower


# -- the search ----------------------------------------------------------------------------------------


SESSION_KEY = b64encode(bytes(range(240, 256))).decode()
KEY_FILE = sha256(b"a key").hexdigest()  # the same in every process that collects tests


@pytest.fixture(scope="module")
def sought() -> Secrets:
    made = Secrets()
    for number in range(500):
        made.add("token", f"{number:043d}")
    for kind, secret in (("token", TOKEN), ("session_key", SESSION_KEY), ("secret.key", KEY_FILE)):
        made.add(kind, secret)
    return made


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        ("token", TOKEN.encode()),
        ("token", TOKEN[:32].encode()),
        ("token", TOKEN[-22:].encode()),
        ("token", b"%043d" % 499),
        ("session_key", SESSION_KEY.encode()),
        ("session_key", quote(SESSION_KEY, safe="").encode()),
        ("session_key", bytes(range(240, 256))),
        ("secret.key", KEY_FILE.encode()),
        ("secret.key", bytes.fromhex(KEY_FILE)),
        ("secret.key", bytes.fromhex(KEY_FILE)[16:]),
    ],
)
def test_a_secret_is_found_wherever_it_lies_and_in_whatever_form(
    sought: Secrets, kind: str, stored: bytes
) -> None:
    for before in range(17):
        for behind in (0, 1, 1000):
            found = sought.found_in(b"\xff" * before + stored + b"\xff" * behind)
            assert {name for name, _ in found} == {kind}


def test_nothing_is_found_where_nothing_is(sought: Secrets) -> None:
    assert sought.found_in(random.Random(1).randbytes(2**20)) == set()
    assert sought.found_in(b"") == set()
    assert sought.found_in(TOKEN[:14].encode() + b"." + TOKEN[30:].encode()) == set()
    assert sought.count == 503


def test_what_a_process_holds_is_searched(sought: Secrets) -> None:
    held = Secrets()
    made = os.urandom(24).hex()[:43]
    held.add("token", made)
    assert any(held.found_in(piece) for piece in memory_of(os.getpid()))
