"""What is promised in public: seals, which commit to the whole ledger, and receipts, to one event each.

Both are text of a few lines, so that what is hashed and signed can be read. docs/proofs.md explains them.
"""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

import msgspec

from ledger import merkle
from ledger.errors import LedgerFault
from ledger.note import Checkpoint, Signer

# The last microsecond of the year 9999, behind which no time can be written.
_LAST_US: Final = 253_402_300_799_999_999
_SEAL: Final = re.compile(
    r"credit-ledger seal v1\n"
    r"number ([1-9][0-9]*)\n"
    r"sealed_at_us (0|[1-9][0-9]*)\n"
    r"events (0|[1-9][0-9]*)\n"
    r"accounts (0|[1-9][0-9]*)\n"
    r"outstanding (0|[1-9][0-9]*)\n"
    r"root ([0-9a-f]{64})\n"
    r"(?:lost ([1-9][0-9]*)\n)?"
)


class NotSealed(LedgerFault):
    """The ledger is not what the last seal says, and no seal shall cover that up."""


class Seal(msgspec.Struct, frozen=True):
    """What the ledger came to at a moment: all events that were committed by then, and nothing of later.

    `root` is the hash of the sum tree over all accounts and `outstanding` its sum, both of what is recorded.
    `lost` is how many events of the seal before are no longer there, where an operator has owned up to that.
    """

    number: int
    sealed_at_us: int
    events: int
    accounts: int
    outstanding: int
    root: bytes
    lost: int = 0

    def entry(self) -> str:
        """The text that is the seal's leaf in the log of seals."""
        return (
            f"credit-ledger seal v1\nnumber {self.number}\nsealed_at_us {self.sealed_at_us}\n"
            f"events {self.events}\naccounts {self.accounts}\noutstanding {self.outstanding}\n"
            f"root {self.root.hex()}\n"
        ) + (f"lost {self.lost}\n" if self.lost else "")


def seal_of(entry: str) -> Seal:
    """The seal in an entry; raises ValueError unless it is exactly what `Seal.entry` makes of it."""
    found = _SEAL.fullmatch(entry)
    if found is None:
        raise ValueError("it is not the entry of a seal")
    number, sealed_at_us, events, accounts, outstanding, root, lost = found.groups(default="0")
    if int(sealed_at_us) > _LAST_US:
        raise ValueError("it is of a time behind the year 9999")
    return Seal(
        int(number),
        int(sealed_at_us),
        int(events),
        int(accounts),
        int(outstanding),
        bytes.fromhex(root),
        int(lost),
    )


def origin_of(appid: str) -> str:
    """The name of the log of seals of a mini-program's ledger, and of the key that signs it."""
    return f"credit-ledger/{quote(appid, safe='')}"


class Receipt(msgspec.Struct, frozen=True):
    """One event as it was answered: a promise that every seal made a minute later or more has it.

    `key` is SHA-256 of the openid, `hash` the event's own, `credit` what could be spent right after it.
    """

    key: bytes
    version: int
    hash: bytes
    credit: int
    recorded_at_us: int

    def entry(self) -> str:
        return (
            f"credit-ledger receipt v1\nopenid_hash {self.key.hex()}\nversion {self.version}\n"
            f"hash {self.hash.hex()}\ncredit {self.credit}\nrecorded_at_us {self.recorded_at_us}\n"
        )


class SignedReceipt(msgspec.Struct, frozen=True):
    """A receipt in a batch that one signature covers: the note is the checkpoint of a tree of receipts, in
    which this one is entry `place`, as `path` proves."""

    receipt: Receipt
    place: int
    path: list[bytes]
    note: str


def sign_receipts(receipts: Sequence[Receipt], signer: Signer) -> list[SignedReceipt]:
    """Each receipt with its proof under one signature: signing takes longer than all the rest of a grant's
    hashing, and what is committed together can be signed together."""
    if not receipts:
        return []
    leaves = [merkle.leaf_hash(receipt.entry().encode()) for receipt in receipts]
    top, paths = merkle.inclusion_paths(leaves)
    note = signer.sign(Checkpoint(f"{signer.name}/receipts", len(receipts), top).text())
    return [
        SignedReceipt(receipt, place, path, note)
        for place, (receipt, path) in enumerate(zip(receipts, paths, strict=True))
    ]
