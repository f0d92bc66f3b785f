"""Seals and proofs: what the service commits to in public, and what shows a person that his account is in it.

Hashes in paths stand one behind another, as base64; docs/proofs.md says how each is checked.
"""

from base64 import b64encode
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from api.accounts import READ
from api.incoming import Version
from api.operation import NOBODY, USER, Received, Resource, operation, whole_number
from api.outgoing import Count, Hash, Time
from api.problems import Problem
from ledger import merkle
from ledger.errors import AccountNotFound
from ledger.events import Recorded
from ledger.seal_file import SealFile, Stored
from ledger.statement import rfc3339
from ledger.sums import pack_path

_MAX_EVENTS: Final = 1000
_MAX_SEALS: Final = 100
_DEFAULT_SEALS: Final = 20

Base64 = Annotated[str, msgspec.Meta(extra_json_schema={"contentEncoding": "base64"})]
Text = Annotated[str, msgspec.Meta(description="byte for byte what was hashed")]
Note = Annotated[str, msgspec.Meta(description="the signed checkpoint of the log of seals, a C2SP note")]


class SealView(msgspec.Struct):
    """A seal: what the whole ledger came to when it was made. `entry` says the same, and is what is hashed."""

    number: Version
    sealed_at: Time
    events: Count
    accounts: Count
    outstanding: Annotated[int, msgspec.Meta(ge=0, description="the recorded credit of all accounts together")]
    root: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", description="of the sum tree of all accounts")]
    entry: Text
    note: Note


class ProvedSeal(SealView):
    """A seal with `inclusion`, the way from its entry to the root in its note, which so signs all of it."""

    inclusion: Base64


class SealPage(msgspec.Struct):
    """Seals, newest first, and the public key that their notes are checked with."""

    vkey: Annotated[
        str, msgspec.Meta(description="name, id and Ed25519 key as notes have it; keep your own copy")
    ]
    seals: list[SealView]
    next_before: Version | None


class ConsistencyView(msgspec.Struct):
    """That the log of seals up to `second` begins with all of it up to `first`."""

    first: ProvedSeal
    second: ProvedSeal
    path: Annotated[
        Base64, msgspec.Meta(description="RFC 6962 consistency proof from first's note to second's")
    ]


class ProvedEvent(msgspec.Struct):
    """All columns of an event that its hash covers; `data` is the stored text."""

    version: int
    type: str
    data: Text
    credit: Count
    key: str | None
    fingerprint: str | None
    recorded_at_us: int
    hash: Hash


class ProofView(msgspec.Struct):
    """An account in a seal: its events up to what was sealed, its leaf, and the way from there to the note.

    `path` leads from the leaf to the seal's root: of each step the depth (1 byte), the length of the sum (1),
    the sum, the hash (32). `inclusion` leads from the seal's entry to the root in the note.
    """

    vkey: str
    openid_hash: Annotated[
        Hash, msgspec.Meta(description="SHA-256 of the openid: the account's key in the tree")
    ]
    version: Annotated[int, msgspec.Meta(ge=1, description="the last sealed event")]
    head: Annotated[Hash, msgspec.Meta(description="the hash of that event")]
    credit: Count
    held: Count
    path: Base64
    seal: SealView
    inclusion: Base64
    events: list[ProvedEvent]
    next_after: Annotated[Version, msgspec.Meta(description="send it as `after`; null: these are all")] | None


_AFTER: Final = whole_number(
    "after",
    f"Only events with a version above this: `next_after` of the answer before. {_MAX_EVENTS} come at most.",
)
_BEFORE: Final = whole_number(
    "before", "Only seals with a number below this: `next_before` of the page before."
)
_LIMIT: Final = whole_number("limit", "How many seals at most.", _MAX_SEALS, _DEFAULT_SEALS)


class Seals(Resource):
    """`GET /v1/seals`: for everybody, because a promise that nobody can read binds nobody."""

    @operation(
        "List the seals, newest first",
        scopes=NOBODY,
        answer=SealPage,
        parameters=(_BEFORE, _LIMIT),
        links={
            "next": {"operationId": "get_seals", "parameters": {"query.before": "$response.body#/next_before"}}
        },
    )
    async def on_get(self, request: Received[None]) -> SealPage:
        file = self.service.seals
        found = list(file.seals(request.given["before"], request.given["limit"] or _DEFAULT_SEALS))
        more = found[-1].seal.number if found and found[-1].seal.number > 1 else None
        return SealPage(file.vkey(), [view_seal(stored) for stored in found], more)


class SealResource(Resource):
    """`GET /v1/seals/{seal}`."""

    @operation("Read a seal", scopes=NOBODY, answer=ProvedSeal, failures={"seal-not-found": 404})
    async def on_get(self, request: Received[None]) -> ProvedSeal:
        file = self.service.seals
        return _proved(_seal(file, request.path["seal"]), file)


class Consistency(Resource):
    """`GET /v1/seals/{seal}/consistency/{later}`."""

    @operation(
        "Prove that a later seal goes on from an earlier one",
        scopes=NOBODY,
        answer=ConsistencyView,
        failures={"seal-not-found": 404},
    )
    async def on_get(self, request: Received[None]) -> ConsistencyView:
        file = self.service.seals
        first, second = _seal(file, request.path["seal"]), _seal(file, request.path["later"])
        if first.seal.number > second.seal.number:
            raise Problem(404, "seal-not-found", "The second seal must not be older than the first.")
        path = merkle.consistency_path(first.seal.number, second.seal.number, file.subtree)
        return ConsistencyView(_proved(first, file), _proved(second, file), _joined(path))


class MyProof(Resource):
    """`GET /v1/me/proof`."""

    @operation(
        "Prove the caller's account up to the last seal",
        scopes=USER,
        answer=ProofView,
        parameters=(_AFTER,),
        failures={"not-sealed": 404, "busy": 503},
    )
    async def on_get(self, request: Received[None]) -> ProofView:
        return await prove(self, request)


class AccountProof(Resource):
    """`GET /v1/accounts/{openid}/proof`."""

    @operation(
        "Prove an account up to the last seal",
        scopes=READ,
        answer=ProofView,
        parameters=(_AFTER,),
        refusals=(AccountNotFound,),
        failures={"not-sealed": 404, "busy": 503},
        links={
            "next": {
                "operationId": "get_accounts_proof",
                "parameters": {
                    "path.openid": "$request.path.openid",
                    "query.after": "$response.body#/next_after",
                },
            }
        },
    )
    async def on_get(self, request: Received[None]) -> ProofView:
        if self.service.reader.standing(request.openid, 0) is None:
            raise AccountNotFound(request.openid)
        return await prove(self, request)


async def prove(self: Resource, request: Received[Any]) -> ProofView:
    after = request.given["after"] or 0
    proof = await self.service.prove(request.openid, after, _MAX_EVENTS)
    if proof is None:
        raise Problem(404, "not-sealed", "No seal has this account yet; one is made every minute.")
    leaf, events = proof.sealed.leaf, proof.events
    last = events[-1].version if events else leaf.version
    return ProofView(
        proof.vkey,
        leaf.key.hex(),
        leaf.version,
        leaf.head.hex(),
        leaf.credit,
        leaf.held,
        _base64(pack_path(proof.sealed.path)),
        view_seal(proof.sealed.stored),
        _joined(proof.inclusion),
        [_view_event(event) for event in events],
        last if last < leaf.version else None,
    )


def view_seal(stored: Stored) -> SealView:
    seal = stored.seal
    return SealView(
        seal.number,
        rfc3339(seal.sealed_at_us),
        seal.events,
        seal.accounts,
        seal.outstanding,
        seal.root.hex(),
        stored.entry,
        stored.note,
    )


def _proved(stored: Stored, file: SealFile) -> ProvedSeal:
    size = stored.seal.number
    path = merkle.inclusion_path(size - 1, size, file.subtree)
    return ProvedSeal(**msgspec.structs.asdict(view_seal(stored)), inclusion=_joined(path))


def _view_event(event: Recorded) -> ProvedEvent:
    return ProvedEvent(
        event.version,
        event.type,
        event.data.decode(),
        event.credit,
        event.key,
        None if event.fingerprint is None else event.fingerprint.hex(),
        event.recorded_at_us,
        event.hash.hex(),
    )


def _seal(file: SealFile, number: int) -> Stored:
    stored = file.at(number)
    if stored is None:
        raise Problem(404, "seal-not-found", f"There is no seal {number}.")
    return stored


def _joined(hashes: Sequence[bytes]) -> str:
    return _base64(b"".join(hashes))


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
