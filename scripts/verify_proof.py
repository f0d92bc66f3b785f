#!/usr/bin/env python3
"""Check what a credit ledger has promised, with none of its own code: one file, to be read, then believed.

It needs Python 3.9 and `pip install cryptography` (for Ed25519). From top to bottom it is the argument: signed
notes, logs, seals, accounts, the sum tree; then receipts, proofs and exports, which are made of these.
Exit status: 0 verified, 1 not verified and the last line says why, 2 nothing that could be checked.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import struct
import sys
from collections import namedtuple
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MINUTE_US = 60_000_000  # a receipt promises: every seal made so long after it, or later, has its event
LARGEST = 253_402_300_799_999_999  # no number is larger: the last microsecond of the year 9999
# What an event does to the credit with its `amount`; others do nothing. What is `returned` comes on top.
EFFECTS = {"CreditGranted": 1, "CreditSpent": -1, "CreditHeld": -1, "GrantRevoked": -1, "CreditExpired": -1}
SEAL = """credit-ledger seal v1
number (?P<number>N)\nsealed_at_us (?P<sealed_at_us>N)\nevents (?P<events>N)\naccounts (?P<accounts>N)
outstanding (?P<outstanding>N)\nroot (?P<root>[0-9a-f]{64})\n(?:lost (?P<lost>[1-9][0-9]{0,15})\n)?"""
Key = tuple[str, bytes, bytes]  # name, id, Ed25519 public key
Node = namedtuple("Node", "key depth hash sum left right")  # of the sum tree; a leaf is at depth 256


def require(holds: object, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def parse(text: bytes) -> Any:
    """JSON, in UTF-8, and no key twice in one object: two readers must not read two things."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        require(len(dict(pairs)) == len(pairs), "a key stands twice in one object")
        return dict(pairs)

    return json.loads(text.decode(), object_pairs_hook=unique)


def take(document: Any, kind: type, *names: str) -> Any:
    """The fields of these names, which must be there and of that kind; `bytes` are a hash in hexadecimal."""
    values: list[Any] = []
    for name in names:
        value: Any = document.get(name) if type(document) is dict else None
        if kind is bytes and type(value) is str and re.fullmatch("[0-9a-f]{64}", value):
            value = bytes.fromhex(value)
        require(type(value) is kind, f"{name} is missing or of the wrong type")
        require(kind is not int or 0 <= document[name] <= LARGEST, f"{name} is out of range")
        values.append(value)
    return values if len(names) > 1 else values[0]


def from_base64(text: str) -> bytes:
    """RFC 4648, section 4, and only the one way in which these bytes are written."""
    found = base64.b64decode(text, validate=True)
    require(base64.b64encode(found).decode() == text, "something is not base64 as it should be")
    return found


def read_vkey(vkey: str) -> Key:
    """Name, id and key; c2sp.org/signed-note, "Verifier keys": name+id+base64(0x01, Ed25519 key)."""
    name, key_id, encoded = ([*vkey.split("+", 2), "", ""])[:3]
    typed = from_base64(encoded)
    right = re.fullmatch(r"\S+", name) and typed[:1] == b"\x01" and len(typed) == 33
    require(right and sha(name.encode(), b"\n", typed)[:4].hex() == key_id, "the vkey is not one, or not whole")
    return name, bytes.fromhex(key_id), typed[1:]


def open_note(note: str, key: Key) -> str:
    """The text that `key` signed. c2sp.org/signed-note: signatures of other keys are passed over."""
    text, blank, signatures = note.rpartition("\n\n")
    form = "\u2014 ([^\\s+]+) ([A-Za-z0-9+/=]+)\n"
    whole = re.fullmatch(f"(?:{form})+", signatures) and not re.search("[\x00-\x09\x0b-\x1f]", note)
    require(blank and whole, "a note is not a text, an empty line and signatures")
    named = [(name, from_base64(encoded)) for name, encoded in re.findall(form, signatures)]
    ours = [signature[4:] for name, signature in named if (name, signature[:4]) == key[:2]]
    require(ours, "a note is not signed by the given key")
    try:
        for signature in ours:  # RFC 8032
            Ed25519PublicKey.from_public_bytes(key[2]).verify(signature, (text + "\n").encode())
    except InvalidSignature:
        raise ValueError("the signature of a note is not of its text") from None
    return text + "\n"


def open_checkpoint(note: str, key: Key, origin: str) -> tuple[int, bytes]:
    """Size and root of the log `origin`: c2sp.org/tlog-checkpoint."""
    form = "(.+)\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n(?:.+\n)*"
    found = re.fullmatch(form, open_note(note, key))
    name, size, root = found.groups() if found else ("", "", "")
    require(name == origin, "a note is not a checkpoint of the log that it should be of")
    return int(size), from_base64(root)


def upwards(fn: int, sn: int, path: bytes) -> Iterator[tuple[int, bytes]]:
    """The loop of RFC 9162, sections 2.1.3.2 and 2.1.4.2: each hash of a path; is it on the left?"""
    for begin in range(0, len(path), 32):
        require(sn, "a path is too long")
        left = fn & 1 or fn == sn
        yield left, path[begin : begin + 32]
        while left and fn and not fn & 1:
            fn, sn = fn >> 1, sn >> 1
        fn, sn = fn >> 1, sn >> 1
    require(not sn, "a path is too short")


def check_included(entry: str, place: int, size: int, path: bytes, root: bytes) -> None:
    """RFC 9162, section 2.1.3.2: `entry` is in the log, `place` entries before it."""
    require(place < size, "an entry lies outside of the log that was signed")
    digest = sha(b"\x00", entry.encode())
    for left, other in upwards(place, size - 1, path):
        digest = sha(b"\x01", other, digest) if left else sha(b"\x01", digest, other)
    require(digest == root, "an entry is not in the log that was signed")


def check_consistent(first: int, second: int, root: bytes, later: bytes, path: bytes) -> None:
    """RFC 9162, section 2.1.4.2: the log of size `second` begins with all of that of size `first`."""
    require(0 < first <= second, "the second seal is older than the first")
    fn, sn = (first - 1, second - 1) if first < second else (0, 0)
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    path = path if fn else root + path
    one = other = path[:32]
    for left, step in upwards(fn, sn, path[32:]):
        one, other = (
            sha(b"\x01", step, one) if left else one,
            sha(b"\x01", *((step, other) if left else (other, step))),
        )
    require((one, other) == (root, later), "FORKED: the later log does not begin with the earlier one")


def open_seal(entry: str, note: str, inclusion: bytes, key: Key, owed: Any) -> dict[str, Any]:
    """What a seal says, its entry being the last one in the signed log; and that it has all that it should."""
    found = re.fullmatch(SEAL.replace("N", "0|[1-9][0-9]{0,37}"), entry)
    said = found.groupdict() if found else {"number": "0"}
    seal: dict[str, Any] = {name: text if name == "root" else int(text or 0) for name, text in said.items()}
    size, seal["log"] = open_checkpoint(note, key, key[0])
    require(found and seal["number"] == size, "the entry is not that of the seal that the note is of")
    check_included(entry, size - 1, size, inclusion, seal["log"])
    for (_, version), (*_, at_us) in owed.items():
        kept = seal["sealed_at_us"] < at_us + MINUTE_US
        require(kept, f"CONTRADICTED: event {version} was promised, and is not there when seal {size} is made")
    return seal


def open_view(view: Any, inclusion: bytes, key: Key, owed: Any) -> dict[str, Any]:
    """A seal as the service answers it: its fields are what its entry says."""
    entry, note = take(view, str, "entry", "note")
    seal = open_seal(entry, note, inclusion, key, owed)
    since_1970 = timedelta(microseconds=min(seal["sealed_at_us"], LARGEST))
    time = datetime(1970, 1, 1, tzinfo=timezone.utc) + since_1970  # noqa: UP017 - Python 3.9 has no UTC
    said = {**seal, "sealed_at": f"{time:%Y-%m-%dT%H:%M:%S.%f}Z"}
    for name in ("number", "sealed_at", "events", "accounts", "outstanding", "root"):
        require(repr(view.get(name)) == repr(said[name]), f"{name} is not what the entry of the seal says")
    print("Seal {number} of {sealed_at} is signed: {outstanding} credits, {accounts} accounts.".format(**said))
    return seal


class Account:
    """One account, followed event by event; `credit` and `held` are what the facts in them come to."""

    def __init__(self, key: bytes) -> None:
        self.key, self.head = key, bytes(32)  # the key is SHA-256 of the openid
        self.version = self.credit = self.held = self.at_us = 0
        self.holds: dict[int, int] = {}

    def follow(self, event: Any, owed: Any) -> None:
        """The next event: chained to the last one, and as a receipt promised it, if one did."""
        version, credit, at_us = take(event, int, "version", "credit", "recorded_at_us")
        require(version == self.version + 1, f"event {self.version + 1} is missing")
        kind, data = (text.encode() for text in take(event, str, "type", "data"))
        key = None if event.get("key") is None else take(event, str, "key").encode()
        mark = None if event.get("fingerprint") is None else take(event, bytes, "fingerprint")
        self.head = chained(self.head, self.key, version, kind, data, credit, key, mark, at_us)
        require(self.head == take(event, bytes, "hash"), f"event {version} is not what its hash is of")
        promised = owed.pop((self.key, version), (self.head, credit, at_us))
        kept = promised == (self.head, credit, at_us)
        require(kept, f"CONTRADICTED: event {version} is another one than the ledger promised")
        require(at_us >= self.at_us, f"event {version} is older than the one before it")
        self.version, self.at_us = version, at_us
        self.fold(kind.decode(), parse(data))
        require(self.credit == credit, f"event {version}: its facts come to a credit of {self.credit}")

    def fold(self, kind: str, facts: Any) -> None:
        amount = take(facts, int, "amount") if kind in EFFECTS or kind == "HoldCaptured" else 0
        parts = take({"returned": [], **facts}, list, "returned") if type(facts) is dict else []
        returned = sum(take(part, int, "amount") for part in parts)
        self.credit += EFFECTS.get(kind, 0) * amount + returned
        if kind == "CreditHeld":
            self.holds[self.version] = amount
        if kind in ("HoldCaptured", "HoldReleased"):
            hold, expired = take({"expired": 0, **facts}, int, "hold", "expired")
            came_to = amount + returned + expired
            require(self.holds.pop(hold, -1) == came_to, f"event {self.version} is not the end of an open hold")
        self.held = sum(self.holds.values())
        require(self.held <= LARGEST, f"event {self.version} holds more than there can be")

    def leaf(self) -> Any:
        """Of the sum tree; its sum is the credit."""
        packed = struct.pack(">c32sQ32sQQ", b"\x00", self.key, self.version, self.head, self.credit, self.held)
        return Node(int.from_bytes(self.key, "big"), 256, sha(packed), self.credit, None, None)


def chained(*columns: Any) -> bytes:
    """The hash of an event: 0x02, then of each column its length and its bytes, a number being 8 of these."""
    raw = [column.to_bytes(8, "big") if type(column) is int else column for column in columns]
    return sha(b"\x02", *(b"\xff" * 4 if part is None else struct.pack(">I", len(part)) + part for part in raw))


def join(depth: int, left: Any, right: Any) -> Any:
    """A node of the sum tree: it commits to the sums of both its sides, and to the bit that divides them."""
    # From a root each key so has one way to go: no second leaf of an account can be shown to somebody else.
    sums = left.sum.to_bytes(16, "big"), right.sum.to_bytes(16, "big")
    digest = sha(bytes((1, depth)), left.hash, sums[0], right.hash, sums[1])
    return Node(left.key, depth, digest, left.sum + right.sum, left, right)


def climb(leaf: Any, path: bytes) -> Any:
    """Where `path` leads from a leaf: steps of depth (1 byte), length of the sum (1), sum, hash (32)."""
    node = leaf
    while path:
        end = 34 + path[1] if len(path) > 33 else 0
        require(34 <= end <= min(len(path), 49), "a step of the path is not whole")
        require(path[0] < node.depth and (end == 34 or path[2] > 0), "the path does not lead upwards")
        other = Node(0, 0, path[end - 32 : end], int.from_bytes(path[2 : end - 32], "big"), None, None)
        node = join(path[0], *((other, node) if leaf.key >> 255 - path[0] & 1 else (node, other)))
        path = path[end:]
    return node


def put(tree: Any, leaf: Any) -> Any:
    """The sum tree, a trie over the bits of the keys, with a leaf more, or in the place of its former one."""
    depth = min(tree.depth, 256 - (tree.key ^ leaf.key).bit_length()) if tree else 256
    if depth == 256:
        return leaf
    right = leaf.key >> 255 - depth & 1
    if depth < tree.depth:
        return join(depth, *((tree, leaf) if right else (leaf, tree)))
    return join(depth, *((tree.left, put(tree.right, leaf)) if right else (put(tree.left, leaf), tree.right)))


def check_receipt(document: Any, key: Key, owed: Any) -> None:
    """A receipt, alone or in the answer that brought it: in a log of those made together."""
    receipt = document["receipt"] if type(document) is dict and "receipt" in document else document
    account, digest = take(receipt, bytes, "openid_hash", "hash")
    version, credit, at_us, place = take(receipt, int, "version", "credit", "recorded_at_us", "place")
    entry = f"credit-ledger receipt v1\nopenid_hash {account.hex()}\nversion {version}\nhash {digest.hex()}\n"
    entry += f"credit {credit}\nrecorded_at_us {at_us}\n"
    size, root = open_checkpoint(take(receipt, str, "note"), key, f"{key[0]}/receipts")
    check_included(entry, place, size, from_base64(take(receipt, str, "path")), root)
    promise = digest, credit, at_us
    require(owed.setdefault((account, version), promise) == promise, "CONTRADICTED: by another receipt")
    print(f"The receipt of event {version} is signed.")


def check_proof(pages: list[Any], openid: str | None, key: Key, owed: Any) -> None:
    """All of one account's events up to a seal, its leaf made of them, and the way from there to the note."""
    account = Account(take(pages[0], bytes, "openid_hash"))
    require(
        openid in (None, "") or sha(openid.encode()) == account.key,
        "the proof is of another account than --openid",
    )
    for page in sorted(pages, key=lambda page: take([*take(page, list, "events"), 0][0], int, "version")):
        for event in page["events"]:
            account.follow(event, owed)
        more = account.version if account.version < take(page, int, "version") else None
        require("next_after" in page and page["next_after"] == more, "next_after is not where the page ends")
        same = {**page, "events": 0, "next_after": 0} == {**pages[0], "events": 0, "next_after": 0}
        require(same, "the pages are not of one seal: fetch them again")
    said = [take(page, bytes, "head"), *take(page, int, "version", "credit", "held")]
    require(all(owner == account.key for owner, _ in owed), "a receipt is of another account")
    require(read_vkey(take(page, str, "vkey")) == key, "the proof names another key")
    come_to = [account.head, account.version, account.credit, account.held]
    require(said == come_to, "the events do not come to the head, version, credit and held that are proved")
    print(f"{account.version} events without a gap come to {account.credit} credits, and {account.held} held.")
    seal = open_view(take(page, dict, "seal"), from_base64(take(page, str, "inclusion")), key, owed)
    top = climb(account.leaf(), from_base64(take(page, str, "path")))
    require((top.hash.hex(), top.sum) == (seal["root"], seal["outstanding"]), "the account is not in the seal")
    print("The account is in that seal, and its credit in the total.")


class Export:
    """A full export, read line by line: what its events come to so far, and the seals over them."""

    def __init__(self, key: Any, owed: Any) -> None:
        self.key, self.owed = key, owed
        self.accounts: dict[str, Account] = {}
        self.changed: dict[str, Account] = {}  # since the last seal
        self.events, self.seals, self.sealed, self.sealed_at_us = 0, 0, 0, 0
        self.tree: Any = None
        self.peaks: list[tuple[int, bytes]] = []  # of the log of seals: the complete subtrees, largest first

    def check(self, lines: Iterator[bytes]) -> None:
        steps = {"format": self.header, "openid": self.event, "seal": self.seal, "end": self.end}
        kind = None
        for number, text in enumerate(lines, 1):
            try:
                line = parse(text)
                require(type(line) is dict and kind != "end", "it is no line of an export, or behind its end")
                kind = next((name for name in steps if name in line), None)
                require(kind and (kind == "format") == (number == 1), "it is no such line of an export")
                steps[str(kind)](line)
            except (ValueError, struct.error, RecursionError) as error:
                raise ValueError(f"line {number}: {error}") from None
        require(kind == "end", "it has no end: it was cut off")
        require(self.seals, "it has no seal, so nothing in it is signed")
        print(f"{self.events} events of {len(self.accounts)} accounts are chained without a gap.")
        print(f"{self.seals} seals are signed, and are what the events before them come to.")
        print(f"{self.events - self.sealed} events behind the last seal are not signed yet.")

    def header(self, line: Any) -> None:
        kind, appid = take(line, str, "format", "appid")
        require(kind == "credit-ledger export 1", "it is not an export that this program knows")
        require(line.get("vkey"), "it has no seal, so nothing in it is signed")
        named = read_vkey(take(line, str, "vkey"))
        self.key = self.key or named
        require(named == self.key, "it names another key")
        require(named[0] == f"credit-ledger/{quote(appid, safe='')}", "the key is not of this ledger")

    def event(self, line: Any) -> None:
        openid = take(line, str, "openid")
        account = self.changed[openid] = self.accounts.get(openid) or Account(sha(openid.encode()))
        self.accounts[openid] = account
        account.follow(line, self.owed)
        self.events += 1

    def seal(self, line: Any) -> None:
        for account in self.changed.values():
            self.tree = put(self.tree, account.leaf())
        self.changed = {}
        entry, note = take(line, str, "seal", "note")
        # The way to the root from an entry that is the last one.
        inclusion = b"".join(digest for _, digest in reversed(self.peaks))
        seal = open_seal(entry, note, inclusion, self.key, self.owed)
        root, outstanding = (self.tree.hash, self.tree.sum) if self.tree else (bytes(32), 0)
        said = [seal[name] for name in ("events", "accounts", "outstanding", "root")]
        come_to = [self.events, len(self.accounts), outstanding, root.hex()]
        require(said == come_to, f"seal {seal['number']} is not what the events before it come to")
        require(seal["sealed_at_us"] >= self.sealed_at_us, "the seal is older than the one before it")
        require(seal["number"] == self.seals + 1, "the seals are not numbered 1, 2, 3 without a gap")
        self.seals, self.sealed, self.sealed_at_us = self.seals + 1, self.events, seal["sealed_at_us"]
        size, digest = 1, sha(b"\x00", entry.encode())
        while self.peaks and self.peaks[-1][0] == size:
            size, digest = 2 * size, sha(b"\x01", self.peaks.pop()[1], digest)
        self.peaks.append((size, digest))

    def end(self, line: Any) -> None:
        counted = take(line["end"], int, "events", "seals")
        require(counted == [self.events, self.seals], "lines are missing: the end counts others")


def read(path: str) -> Any:
    return sys.stdin.buffer if path == "-" else open(path, "rb")


def documents(paths: list[str]) -> list[Any]:
    """The JSON in these files: of each one document, or one a line."""
    found = []
    for path in paths:
        with read(path) as file:
            text = file.read().strip()
        found += [parse(line) for line in (text.split(b"\n") if b"}\n{" in text else [text])]
    return found


def check_consistency(document: Any, key: Key) -> None:
    """Two seals, and that no seal was exchanged or taken back between them."""
    first, second = take(document, dict, "first", "second")
    inclusions = [from_base64(take(each, str, "inclusion")) for each in (first, second)]
    one, other = open_view(first, inclusions[0], key, {}), open_view(second, inclusions[1], key, {})
    path = from_base64(take(document, str, "path"))
    check_consistent(one["number"], other["number"], one["log"], other["log"], path)
    print("The log of seals of the second begins with all of that of the first.")


def check(given: Any, files: list[Any], pages: list[Any], receipts: list[Any], key: Any) -> None:
    owed: dict[tuple[bytes, int], tuple[bytes, int, int]] = {}  # by account and version: hash, credit, time
    for receipt in receipts:
        check_receipt(receipt, key, owed)
    if pages:
        check_proof(pages, given.openid, key, owed)
    if given.what == "export":
        with read(given.files[0]) as lines:
            Export(key, owed).check(lines)
    for document in files if given.what == "consistency" else []:
        check_consistency(document, key)
    for document in files if given.what == "seal" else []:
        open_view(document, from_base64(take(document, str, "inclusion")), key, {})
    for _, version in owed:
        print(f"Event {version}, which a receipt promises, was not due in a seal that is here.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("proof", "receipt", "consistency", "seal", "export"))
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="of a proof all its pages; - is standard input"
    )
    parser.add_argument("--openid", help="whose account the proof must be of")
    parser.add_argument("--vkey", help="the public key that signs; get it from elsewhere than the files")
    parser.add_argument(
        "--trust-bundle-key", action="store_true", help="take the key that the file itself names"
    )
    parser.add_argument(
        "--receipt", "--receipts", action="append", default=[], metavar="FILE", help="to be kept"
    )
    parser.add_argument("--proof", nargs="+", default=[], metavar="FILE", help="what a receipt is held against")
    given = parser.parse_args()
    if bool(given.vkey) == given.trust_bundle_key:
        parser.error("give --vkey from a source that you trust, or --trust-bundle-key to take the file's word")
    if given.receipt and given.what in ("seal", "consistency"):
        parser.error("a receipt is held against a proof or an export")
    if given.openid and not (given.what == "proof" or given.proof):
        parser.error("--openid is for a proof")
    try:
        files = documents(given.files if given.what != "export" else [])
        pages = files if given.what == "proof" else documents(given.proof)
        receipts = documents(given.receipt) + (files if given.what == "receipt" else [])
        late = given.what == "export" and not given.vkey  # its first line names the key
        key = None if late else read_vkey(given.vkey or take((pages or files)[0], str, "vkey"))
    except (OSError, ValueError, RecursionError) as error:
        print(f"UNUSABLE: {error}")
        return 2
    try:
        check(given, files, pages, receipts, key)
    except OSError as error:
        print(f"UNUSABLE: {error}")
        return 2
    except (ValueError, RecursionError) as error:
        print(f"NOT VERIFIED: {error}")
        if str(error).startswith(("CONTRADICTED", "FORKED")):
            print(
                "Keep these files: both sides are signed by the same key, which is evidence against its owner."
            )
        return 1
    print("VERIFIED" + ", if the key that the files name is the right one" * given.trust_bundle_key)
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main())
