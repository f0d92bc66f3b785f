"""Receipts that somebody kept, against the log: an acknowledged event that is gone, or is another one."""

from base64 import b64decode
from collections.abc import Sequence
from typing import Any

import msgspec

from ledger import merkle
from ledger.audit_scan import AuditScan, openids_of
from ledger.fault import Fault, text_of
from ledger.note import InvalidNote, Verifier, checkpoint_of
from ledger.seal import Receipt


class _Line(msgspec.Struct):
    """A receipt as the API answers it."""

    openid_hash: str
    version: int
    hash: str
    credit: int
    recorded_at_us: int
    place: int
    path: str
    note: str

    def receipt(self) -> Receipt:
        key, digest = bytes.fromhex(self.openid_hash), bytes.fromhex(self.hash)
        return Receipt(key, self.version, digest, self.credit, self.recorded_at_us)


def receipt_faults(lines: Sequence[str], verifier: Verifier, scan: AuditScan) -> list[Fault]:
    """What is wrong with each line: a receipt, or an answer of the API that has one in its `receipt`."""
    faults, receipts = [], []
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            receipts.append(_proven(text, verifier))
        except (ValueError, RecursionError) as error:
            faults.append(Fault("", 0, 0, "receipt", f"line {number} is no receipt of this ledger: {error}"))
    names = openids_of({receipt.key for receipt in receipts}, scan)
    for receipt in receipts:
        openid = names.get(receipt.key)
        event = None if openid is None else scan.event(openid, receipt.version)
        name = receipt.key.hex() if openid is None else text_of(openid)
        if event is None:
            detail = f"the acknowledged event, of credit {receipt.credit} after it, is not there"
            faults.append(Fault(name, receipt.version, 0, "receipt", detail))
        elif (event.hash, event.credit, event.recorded_at_us) != (
            receipt.hash,
            receipt.credit,
            receipt.recorded_at_us,
        ):
            detail = f"another event than the acknowledged one, whose hash is {receipt.hash.hex()}"
            faults.append(Fault(name, receipt.version, event.position, "receipt", detail))
    return faults


def _proven(text: str, verifier: Verifier) -> Receipt:
    """The receipt in a line; raises ValueError unless its note proves that this ledger gave it."""
    found: Any = msgspec.json.decode(text)
    if isinstance(found, dict):
        found = found.get("receipt", found)
    line = msgspec.convert(found, _Line)
    receipt = line.receipt()
    checkpoint = checkpoint_of(verifier.open(line.note))
    if checkpoint.origin != f"{verifier.name}/receipts":
        raise InvalidNote("its note is not one of receipts")
    joined = b64decode(line.path, validate=True)
    path = [joined[first : first + merkle.HASH_BYTES] for first in range(0, len(joined), merkle.HASH_BYTES)]
    leaf = merkle.leaf_hash(receipt.entry().encode())
    if not merkle.included(leaf, line.place, checkpoint.size, path, checkpoint.root):
        raise InvalidNote("its path does not lead to the root that was signed")
    return receipt
