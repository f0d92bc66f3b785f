"""The seals audited: each against the one before it, and what they say of the ledger against its events.

A seal is a promise that was signed and given away. A ledger that was rewritten consistently is right in itself;
against its seals it is not, and the leaves of the last one name the accounts.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ledger.audit_scan import AuditScan, openids_of
from ledger.audit_trees import (
    Frontier,
    differing_leaves,
    root_in,
    root_of_stream,
    tree_problems,
)
from ledger.errors import LedgerUnusable
from ledger.fault import Fault, text_of
from ledger.note import Checkpoint, InvalidNote, Verifier, checkpoint_of, log_checkpoint
from ledger.range_audit import AtCut, Cut, RangeReport
from ledger.receipt_audit import receipt_faults
from ledger.seal import Seal, origin_of, seal_of
from ledger.seal_file import SealFile, Stored
from ledger.sealed_leaf import LEAF_BYTES, Leaf, node_of, part_of, place_of, unpack_leaf
from ledger.sums import Node


class Witness(msgspec.Struct, frozen=True):
    """What the auditor has from elsewhere: a note that was published, the public key, and the lines of a file
    with receipts, as the API answers them."""

    note: str | None = None
    vkey: str | None = None
    receipts: Sequence[str] = ()


class SealsReport(msgspec.Struct, frozen=True):
    """What the seals say: how many there are, the last one's entry and note, and what is wrong.

    `checked` is how many of them the events could be compared with: those before an owned-up loss whose
    events are gone are not among them.
    """

    count: int
    checked: int
    entry: str | None
    note: str | None
    vkey: str
    faults: list[Fault]


class SealAudit:
    """The seals at `path` as they are now, in one snapshot that is kept until `close`.

    They are read before the events: so all that they cover is there by then.
    """

    def __init__(self, path: Path, witness: Witness) -> None:
        self._witness = witness
        self._file = SealFile(path)
        self._file.connection.execute("BEGIN")
        self._vkey = self._file.vkey()
        self._faults: list[Fault] = []
        self._seals: list[Seal] = []
        self._ends: list[tuple[int, bytes]] = []
        self._entry: str | None = None
        self._note: str | None = None
        self._witnessed: int | None = None
        try:
            self._verifier: Verifier | None = Verifier.of(witness.vkey or self._vkey)
        except InvalidNote as error:
            self._verifier = None
            self._blame(f"the public key cannot be used: {error}")
        if witness.vkey is not None and witness.vkey != self._vkey:
            self._blame("the public key in seals.db is not the one that was given")
        self._read()
        # In order of their positions; a seal that owns up to a loss can lie before an older one.
        self._order = sorted(range(len(self._seals)), key=lambda place: self._ends[place])

    @property
    def cuts(self) -> list[Cut]:
        whole = {len(self._seals) - 1, self._witnessed}
        return [Cut(*self._ends[place], place in whole) for place in self._order]

    def close(self) -> None:
        self._file.close()

    def at(self, number: int) -> Stored:
        """The seal of that number; raises LedgerUnusable where there is none, or it is wrong in itself."""
        if not 1 <= number <= len(self._seals):
            raise LedgerUnusable(f"there is no sound seal {number}: credit-ledger seals lists them")
        position, last = self._ends[number - 1]
        return Stored(self._seals[number - 1], self._seals[number - 1].entry(), "", position, last)

    def leaf(self, key: bytes) -> Leaf | None:
        """What the last seal has of the account of that key."""
        part = self._file.part(part_of(key))
        at, found = place_of(key, part)
        return unpack_leaf(part[at : at + LEAF_BYTES]) if found else None

    def chain_report(self) -> SealsReport:
        """What the seals are among themselves, and to what the auditor kept; nothing of the events."""
        return SealsReport(len(self._seals), 0, self._entry, self._note, self._vkey, self._faults)

    def report(self, scan: AuditScan, ranges: list[RangeReport], faults: list[Fault]) -> SealsReport:
        """Compare the seals with what the ranges came to, whose faults are among `faults`."""
        at_cuts = [_added(each.cuts[place] for each in ranges) for place in range(len(self._order))]
        found = dict(zip(self._order, at_cuts, strict=True))
        lost = max((place for place, seal in enumerate(self._seals) if seal.lost), default=0)
        # What was lost and owned up to: no event can be compared with the seals that covered it.
        excused = {place for place in range(lost) if not self._ends_in(place, found[place])}
        damaged = set().union(*(each.damaged for each in ranges))
        if self._seals:
            packed = [[each.cuts[place].states for each in ranges] for place in range(len(self._order))]
            states = dict(zip(self._order, packed, strict=True))
            self._check_accounts(scan, states[len(self._seals) - 1], damaged)
            named = any(fault.what != "seal" for fault in self._faults)
            if not (named or damaged or any(fault.what in ("removed", "added") for fault in faults)):
                self._check_sums(found, excused, states)
        if self._witnessed in excused:
            seal = self._seals[self._witnessed or 0]
            self._blame(
                f"the note is of seal {seal.number}, which covers {seal.events} events; some of them are lost, "
                f"as seal {lost + 1} owns up to",
                "cut-tail",
            )
        for appid in scan.ledger_rows():
            if self._verifier is not None and self._verifier.name != origin_of(str(appid)):
                self._blame(f"the seals are of {self._verifier.name}, the ledger is that of appid {appid}")
        if not self._faults:
            self._check_tree()
        if self._witness.receipts and self._verifier is not None:
            self._faults += receipt_faults(self._witness.receipts, self._verifier, scan)
        return SealsReport(
            len(self._seals), len(self._seals) - len(excused), self._entry, self._note, self._vkey, self._faults
        )

    def _blame(self, detail: str, what: str = "seal") -> None:
        self._faults.append(Fault("", 0, 0, what, detail))

    # -- the chain of seals ----------------------------------------------------------------------------

    def _check_tree(self) -> None:
        """What seals.db keeps so that the next seal is cheap: wrong, that one would be."""
        for problem in tree_problems(self._file):
            self._blame(
                f"{problem} in seals.db is not what the seals come to: run credit-ledger seal --rebuild"
            )

    def _read(self) -> None:
        """Every seal in turn; after the first that is wrong in itself nothing sound can be said of the rest."""
        tops = Frontier()
        wanted = self._published()
        for number, entry, note, position, last in self._file.stored_rows():
            try:
                seal = seal_of(entry)
                tops.append(entry.encode())
                origin = "" if self._verifier is None else self._verifier.name
                checkpoint = Checkpoint(origin, len(self._seals) + 1, tops.root())
                if self._verifier is not None and checkpoint_of(self._verifier.open(note)) != checkpoint:
                    raise ValueError("its note is of another log of seals")
                self._check_follows(seal, number, position)
            except (ValueError, TypeError, AttributeError) as error:
                self._blame(f"seal {number}: {error}")
                break
            self._seals.append(seal)
            self._ends.append((position, last))
            self._entry, self._note = entry, note
            if wanted is not None and wanted.size == checkpoint.size:
                self._witnessed = seal.number - 1
                if wanted != checkpoint:
                    self._blame(f"the note of {wanted.size} seals is not of these: they were made anew")
        if wanted is not None and wanted.size > len(self._seals):
            detail = (
                f"the note is of {wanted.size} seals, and there are {len(self._seals)}: the newest are gone"
            )
            self._blame(detail)

    def _published(self) -> Checkpoint | None:
        if self._witness.note is None or self._verifier is None:
            return None
        try:
            return log_checkpoint(self._witness.note, self._verifier)
        except InvalidNote as error:
            self._blame(f"the note that was given: {error}")
            return None

    def _check_follows(self, seal: Seal, number: object, position: object) -> None:
        expected = len(self._seals) + 1
        if seal.number != expected or number != expected:
            raise ValueError(f"it calls itself {seal.number} where {expected} comes next")
        if type(position) is not int:
            raise ValueError(f"it ends at position {position!r}")
        if not self._seals:
            return
        before = self._seals[-1]
        if seal.sealed_at_us < before.sealed_at_us:
            raise ValueError("it is older than the one before it")
        if not seal.lost and (seal.events < before.events or position < self._ends[-1][0]):
            raise ValueError(f"it covers {seal.events} events after {before.events}, and owns up to no loss")

    # -- the seals and the events ----------------------------------------------------------------------

    def _ends_in(self, place: int, at_cut: AtCut) -> bool:
        return at_cut.found or (self._seals[place].events == 0 and at_cut.events == 0)

    def _check_sums(self, found: dict[int, AtCut], excused: set[int], states: dict[int, list[bytes]]) -> None:
        """The figures of every seal, of which the first that differs is named, and the roots."""
        for place, seal in enumerate(self._seals):
            at_cut = found[place]
            if place in excused:
                continue
            said = seal.events, seal.accounts, seal.outstanding
            comes_to = at_cut.events, at_cut.accounts, at_cut.outstanding
            if said != comes_to:
                names = ("events", "accounts", "credits")
                differing = [
                    f"{one} {name} where the log has {other}"
                    for name, one, other in zip(names, said, comes_to, strict=True)
                    if one != other
                ]
                self._blame(f"seal {seal.number} has {', '.join(differing)}")
                return
            if not self._ends_in(place, at_cut):
                self._blame(
                    f"seal {seal.number} does not end with the event at its position: events were moved"
                )
                return
        if self._witnessed is not None and self._witnessed not in excused:
            seal = self._seals[self._witnessed]
            if root_in(states[self._witnessed]) != Node(seal.root, seal.outstanding):
                self._blame(f"the accounts do not come to the root of seal {seal.number}, which the note is of")

    def _check_accounts(self, scan: AuditScan, states: list[bytes], damaged: set[bytes]) -> None:
        """The last seal's root; where the events do not come to it, the accounts that differ are named."""
        last = self._seals[-1]
        signed = Node(last.root, last.outstanding)
        differing = list(differing_leaves(states, self._file))
        if not damaged and root_in(states) == signed:
            if differing:
                self._blame(f"the leaves in seals.db are not those of seal {last.number}: the events are")
            return
        sealed = ((int.from_bytes(each.key, "big"), node_of(each)) for each in self._file.leaves())
        if root_of_stream(sealed) != signed:
            self._blame(
                f"neither the events nor the leaves in seals.db come to seal {last.number}: which accounts "
                "differ, only an older copy of seals.db can say"
            )
            return
        differing = [pair for pair in differing if pair[0] not in damaged]
        names = openids_of({key for key, _, _ in differing}, scan)
        for key, logged, stored in differing:
            self._faults.append(_difference(scan, last, key, names.get(key), logged, stored))


def _difference(
    scan: AuditScan, seal: Seal, key: bytes, openid: bytes | None, logged: Leaf | None, stored: Leaf | None
) -> Fault:
    """What happened to an account that the seal, whose leaf is proven, has otherwise than the events."""
    name = key.hex() if openid is None else text_of(openid)
    if stored is None:
        detail = f"its events stand before the end of seal {seal.number}, which does not have it"
        return Fault(name, 0, 0, "added", detail)
    there = 0 if logged is None else logged.version
    first = None if openid is None else scan.event(openid, 1)
    if openid is None or (logged is None and first is None):
        detail = f"seal {seal.number} has it with {stored.version} events and credit {stored.credit}"
        return Fault(name, 0, 0, "missing-account", detail)
    event = scan.event(openid, stored.version)
    if event is None:
        detail = f"versions {there + 1} to {stored.version}, which seal {seal.number} covers, are not there"
        return Fault(name, there + 1, 0, "cut-tail", detail)
    if event.hash != stored.head:
        detail = f"its event {stored.version} is not the one that was sealed (seal {seal.number})"
        return Fault(name, stored.version, event.position, "rewritten-chain", detail)
    detail = f"seal {seal.number} ends with its version {stored.version}, by the positions it is {there}"
    return Fault(name, min(there, stored.version) + 1, event.position, "reordered", detail)


def _added(at_cuts: Iterator[AtCut]) -> AtCut:
    total = AtCut(0, 0, 0)
    for each in at_cuts:
        total.events += each.events
        total.accounts += each.accounts
        total.outstanding += each.outstanding
        total.found = total.found or each.found
    return total
