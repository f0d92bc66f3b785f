"""What the tests of seals and proofs share: sealed ledgers, and what the service answers about them."""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api import seals as views
from api.outgoing import view_receipt
from ledger import merkle, seal_file
from ledger.commands import Command
from ledger.execute import Outcome
from ledger.note import Signer
from ledger.schema import create
from ledger.seal import Receipt, SignedReceipt, origin_of, sign_receipts
from ledger.seal_file import SealFile, Stored
from ledger.sealer import make_seal
from ledger.statement import Reader
from ledger.sums import account_key, pack_path
from tests.ledger_samples import APPID, SINCE_US, committed, ticking

SIGNER = Signer(origin_of(APPID), Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER_SIGNER = Signer(origin_of(APPID), Ed25519PrivateKey.from_private_bytes(bytes(32)))
VKEY = SIGNER.verifier.vkey
MINUTE_US = 60_000_000


def new_files(directory: Path) -> Path:
    """An empty ledger with an empty seals.db beside it; the path of the ledger."""
    create(directory / "ledger.db", APPID)
    seal_file.create(directory / "seals.db", VKEY)
    return directory / "ledger.db"


def happened(ledger: Path, *commands: Command, since_us: int = SINCE_US) -> list[Outcome]:
    return committed(ledger, *commands, clock_us=ticking(since_us))


def sealed(
    ledger: Path, now_us: int = SINCE_US + MINUTE_US, *, signer: Signer = SIGNER, accept_loss: bool = False
) -> Stored | None:
    return make_seal(ledger, ledger.with_name("seals.db"), signer, now_us, accept_loss=accept_loss)


def plain(view: object) -> Any:
    """What a client has of an answer."""
    return json.loads(msgspec.json.encode(view))


def proof_pages(ledger: Path, openid: str, page_events: int = 1000) -> list[dict[str, Any]]:
    """What `/v1/me/proof` answers, all its pages."""
    with closing(SealFile(ledger.with_name("seals.db"))) as file, closing(Reader(ledger)) as reader:
        found = file.sealed(account_key(openid.encode()))
        assert found is not None
        size, leaf, pages, after = found.stored.seal.number, found.leaf, [], 0
        while after < leaf.version:
            events = reader.chain(openid, after, leaf.version, page_events)
            after = events[-1].version
            page = views.ProofView(
                file.vkey(),
                leaf.key.hex(),
                leaf.version,
                leaf.head.hex(),
                leaf.credit,
                leaf.held,
                views._base64(pack_path(found.path)),
                views.view_seal(found.stored),
                views._joined(merkle.inclusion_path(size - 1, size, file.subtree)),
                [views._view_event(event) for event in events],
                after if after < leaf.version else None,
            )
            pages.append(plain(page))
        return pages


def consistency(ledger: Path, first: int, second: int) -> dict[str, Any]:
    with closing(SealFile(ledger.with_name("seals.db"))) as file:
        one, other = file.at(first), file.at(second)
        assert one is not None
        assert other is not None
        path = views._joined(merkle.consistency_path(first, second, file.subtree))
        return dict(plain(views.ConsistencyView(views._proved(one, file), views._proved(other, file), path)))


def receipts_of(outcomes: Sequence[Outcome], signer: Signer = SIGNER) -> list[SignedReceipt]:
    """What the service would have answered with, all of one batch."""
    events = [outcome.events[-1] for outcome in outcomes]
    return sign_receipts(
        [
            Receipt(account_key(e.openid.encode()), e.version, e.hash, e.credit, e.recorded_at_us)
            for e in events
        ],
        signer,
    )


def plain_receipts(outcomes: Sequence[Outcome], signer: Signer = SIGNER) -> list[dict[str, Any]]:
    return [plain(view_receipt(signed)) for signed in receipts_of(outcomes, signer)]
