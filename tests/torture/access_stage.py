"""The people and backends of the part `access`: accounts with something in them, and every kind of caller."""

import base64
import json
from collections.abc import Callable, Iterable
from functools import partial
from hashlib import sha256
from random import Random
from typing import Any, Final

import msgspec

from api import access
from api.vault import open_vault
from ledger.commands import Command, FreezeAccount, HoldCredit, RegisterUser, SpendCredit
from ledger.committer import microseconds_now
from scripts.sandbox_wechat import openid_of, signed_user_info
from tests.backend import DAY_US, WRITES, change_access, happened, seal
from tests.conftest import Service
from tests.torture.access_http import Request, ask
from tests.torture.access_judge import Person
from tests.torture.access_table import LIVE_KEYS, SCOPES, Row
from tests.torture.secret_search import Secrets

TOKEN_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# Held and spent before anything is asked, as the bodies in tests/backend.py take it to be.
_GONE: Final = 10


class Scene(msgspec.Struct, frozen=True):
    """One row and one caller, ready: `stolen` is a live credential of somebody who may."""

    row: Row
    caller: str
    subject: Person
    owner: Person
    request: Request
    stolen: str


class Stage:
    """Makes what the requests need beside the running service, and knows every secret that it handed out."""

    def __init__(self, service: Service, random: Random, secrets: Secrets) -> None:
        self.service = service
        self.names = Secrets()  # of persons: no secret, but nothing for a log
        self.versions: dict[str, int] = {}  # openid -> what the ledger must say
        self.hashes: set[bytes] = set()  # of every token, key and code that there ever was
        self._random = random
        self._secrets = secrets
        self._vault = open_vault(service.data / "secret.key")
        self._keys: dict[str, str] = {}

    def set(self, pairs: Iterable[tuple[Row, str]]) -> list[Scene]:
        """A scene for each, in as few commits as there can be."""
        pairs = list(pairs)
        others = [row.path for row, caller in pairs if caller == "other"]
        people = iter(self._people([*others, *(row.path for row, _ in pairs)]))
        another = iter([next(people) for _ in others])
        self._make_keys()
        scenes = []
        for row, caller in pairs:
            subject = next(people)
            owner = next(another) if caller == "other" else subject
            stolen = self._keys["master"] if row.scopes else subject.token
            scenes.append(Scene(row, caller, subject, owner, self._request(row, owner), stolen))
        return scenes

    @property
    def master_key(self) -> str:
        """A live key with every scope."""
        return self._keys["master"]

    def noted(self, kind: str, secret: str) -> str:
        """A secret, to be searched for from now on."""
        # The head of an API key is its id, which lists and events show.
        self._secrets.add(kind, secret[16:] if secret.startswith("ck_") else secret)
        self.hashes.add(sha256(secret.encode()).digest())
        return secret

    def change(self, *changes: access.Change) -> list[Any]:
        """Change access.db beside the service, in one transaction."""
        together: access.Change = lambda connection: [change(connection) for change in changes]  # noqa: E731
        return list(change_access(self.service, together))

    def _people(self, paths: list[str]) -> list[Person]:
        """Somebody for each path, on whose account the write there succeeds."""
        random = self._random
        names = [f"p{random.getrandbits(48):012x}" for _ in paths]
        session_keys = [base64.b64encode(random.randbytes(16)).decode() for _ in names]
        marks = [f"m{random.getrandbits(64):016x}" for _ in names]
        openids = [openid_of(name) for name in names]
        tokens = self.change(
            *(self._login(*each) for each in zip(openids, session_keys, strict=True)),
            *(
                partial(access.save_profile, openid=openid, chosen=access.Profile(mark))
                for openid, mark in zip(openids, marks, strict=True)
            ),
        )[: len(paths)]
        people = [
            Person(*each[:3], random.randrange(10**11, 2 * 10**11), self.noted("token", each[3]), each[4])
            for each in zip(names, openids, marks, tokens, session_keys, strict=True)
        ]
        commands: list[Command] = []
        for person, path in zip(people, paths, strict=True):
            self._secrets.add("session_key", person.session_key)
            self.names.add("openid", person.openid)
            self.names.add("nickname", person.mark)
            commands += [
                RegisterUser(person.openid, person.credit + _GONE),
                HoldCredit(person.openid, 5, "order", "p3", person.mark),
                SpendCredit(person.openid, 5, "order", "p4", person.mark),
            ]
            frozen = path.endswith("/unfreeze")
            if frozen:
                commands.append(FreezeAccount(person.openid, "asked for", "p5"))
            self.versions[person.openid] = 5 if frozen else 4
        happened(self.service, *commands)
        seal(self.service)
        return people

    def _login(self, openid: str, session_key: str, ago_us: int = 0) -> access.Change:
        return partial(
            access.open_session,
            openid=openid,
            unionid=None,
            sealed_key=self._vault.seal(openid, session_key),
            now_us=microseconds_now() - ago_us,
        )

    def _make_keys(self) -> None:
        now_us = microseconds_now()
        scopes = {name: {name} & set(SCOPES) for name in LIVE_KEYS}
        scopes |= {name: set(SCOPES) for name in ("master", "expired-key", "revoked-key")}
        made = self.change(
            *(
                partial(
                    access.create_key,
                    name="tests",
                    scopes=frozenset(some),
                    now_us=now_us - DAY_US,
                    expires_at_us=now_us + (-1 if name == "expired-key" else DAY_US),
                )
                for name, some in scopes.items()
            )
        )
        for name, (key, secret) in zip(scopes, made, strict=True):
            self._keys[name] = self.noted("API key", secret)
            if name == "revoked-key":
                self.change(partial(access.revoke_key, key_id=key.id, now_us=now_us))

    # -- who asks --------------------------------------------------------------------------------------

    def credential(self, scene: Scene) -> str | None:
        """What the caller shows, made at the last moment: who logs in sweeps up what has expired."""
        random, subject = self._random, scene.subject
        makers: dict[str, Callable[[], str | None]] = {
            "nobody": lambda: None,
            "malformed": lambda: random.choice(malformed(random, subject.token, self._keys["master"])),
            "guessed": lambda: random.choice(guesses(random, subject.token)),
            "expired": lambda: self._expired(subject),
            "logged-out": self._logged_out,
            "erased": lambda: self._erased(subject),
            "other": lambda: scene.owner.token,
            "own": lambda: subject.token,
            "guessed-key": lambda: "".join(
                (self._keys["master"][:16], random.choice(guesses(random, self._keys["master"][16:])))
            ),
        }
        return makers[scene.caller]() if scene.caller in makers else self._keys[scene.caller]

    def _expired(self, person: Person) -> str:
        """Unused for too long, or used to the last and too old."""
        idle = self._random.random() < 0.5
        ago_us = (access.IDLE_EXPIRY_US if idle else access.ABSOLUTE_EXPIRY_US) + 1_000_000
        (token,) = self.change(self._login(person.openid, person.session_key, ago_us))
        if not idle:
            digest = sha256(token.encode()).digest()
            self.change(partial(access.touch_session, token_hash=digest, now_us=microseconds_now()))
        return self.noted("token", token)

    def _logged_out(self) -> str:
        """Of a phone whose owner logged out on it, or on another one and everywhere."""
        openid = openid_of(f"p{self._random.getrandbits(48):012x}")
        tokens = self.change(self._login(openid, ""), self._login(openid, ""))
        phone, tablet = (self.noted("token", token) for token in tokens)
        everywhere = self._random.random() < 0.5
        path, shown = ("/v1/sessions", tablet) if everywhere else ("/v1/sessions/current", phone)
        bearer = ("Authorization", f"Bearer {shown}")
        answer = ask(self.service.port, Request("DELETE", path, (bearer,)))
        assert answer.status == 204, answer
        return phone

    def _erased(self, person: Person) -> str:
        self.change(partial(access.erase_person, openid=person.openid))
        return person.token

    # -- what is asked ---------------------------------------------------------------------------------

    def _request(self, row: Row, owner: Person) -> Request:
        """The request without a credential; it is about `owner`."""
        hold, fresh = "3", f"k{self._random.getrandbits(64):016x}"
        path = row.path.format(openid=owner.openid, hold=hold, seal=1, later=1)
        headers = [("Content-Type", "application/json")]
        if row.does in ("event", "events"):
            headers.append(("Idempotency-Key", fresh))
        body: object = {}
        if row.path == "/v1/grants":
            headers[0] = ("Content-Type", "application/x-ndjson")
            body = {"openid": owner.openid, "key": fresh, "amount": 1, "reason": "gift"}
        elif row.path == "/userinfo":
            body = signed_user_info(owner.name, owner.session_key, {"nickName": owner.mark + "y"})
        elif row.path == "/v1/me/profile":
            body = {"nickname": owner.mark + "x"}
        elif row.does == "token":
            body = {"code": self.noted("code", f"dev-{owner.name}-{fresh}")}
        elif row.scopes and row.does == "event":
            body = WRITES[row.path.removeprefix("/v1/accounts/{openid}").format(hold=hold)]
        sent = row.method in ("POST", "PUT") and row.path != "/v1/me/checkin"
        return Request(row.method, path, tuple(headers), json.dumps(body).encode() if sent else b"")


def guesses(random: Random, token: str) -> list[str]:
    """What somebody tries who knows nothing, or something of a token that is live."""
    place = random.randrange(len(token))
    flipped = TOKEN_LETTERS[TOKEN_LETTERS.index(token[place]) ^ 1 << random.randrange(6)]
    kept = random.randrange(1, len(token))
    last = TOKEN_LETTERS.index(token[-1]) ^ 1 + random.randrange(3)
    return [
        "".join(random.choices(TOKEN_LETTERS, k=len(token))),
        token[:place] + flipped + token[place + 1 :],
        token[:kept] + _other("".join(random.choices(TOKEN_LETTERS, k=len(token) - kept)), token[kept:]),
        _other(token.swapcase(), token),
        _other(token[::-1], token),
        token[:-1] + TOKEN_LETTERS[last],  # the same 256 bits: the last letter has two bits more than there are
    ]


def _other(guess: str, truth: str) -> str:
    return guess if guess != truth else guess[:-1] + ("A" if truth[-1] != "A" else "B")


def malformed(random: Random, token: str, key: str) -> list[str]:
    """What is no token and no key at all."""
    return [
        *("", "undefined", "null", "0", "[object Object]", "__proto__", "' OR 1=1 --", "*", "%", "x" * 3000),
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.",
        token[: random.randrange(1, 43)],
        token + random.choice(TOKEN_LETTERS),
        random.choice(TOKEN_LETTERS) + token,
        f"{token} {token}",
        f"{token},",
        f'"{token}"',
        token + "=",
        token[:20] + "ü" + token[21:],
        sha256(token.encode()).hexdigest(),
        base64.urlsafe_b64encode(sha256(token.encode()).digest()).decode()[:43],
        key[:-1],
        key + "x",
        key[3:],
        key.upper(),
    ]
