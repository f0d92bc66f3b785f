"""The Merkle tree of RFC 6962, ours and the verifier's, on the vectors that all implementations share."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import merkle
from ledger.merkle import (
    Tree,
    consistency_path,
    consistent,
    included,
    inclusion_path,
    inclusion_paths,
    leaf_hash,
    node_hash,
    root,
)
from scripts import verify_proof

# The test vectors of Certificate Transparency's reference implementation (google/certificate-transparency,
# merkle_tree_test.cc), which transparency-dev/merkle has in testonly/constants.go and proof/verify_test.go.
LEAVES = [
    bytes.fromhex(entry)
    for entry in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# Place from 0, size, path.
INCLUSION = [
    (0, 1, []),
    (0, 8, [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]),
    (5, 8, [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (1, 5, [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]),
]  # fmt: skip
CONSISTENCY = [
    (1, 1, []),
    (1, 8, [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]),
    (6, 8, [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]),
    (2, 5, [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]),
    (6, 7, [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]),
]  # fmt: skip


def _unhex(path: list[str]) -> list[bytes]:
    return [bytes.fromhex(digest) for digest in path]


def _accepts(check: Any, *arguments: Any) -> bool:
    try:
        check(*arguments)
    except ValueError:
        return False
    return True


def _both_include(entry: bytes, place: int, size: int, path: list[bytes], top: bytes) -> bool:
    """What both implementations say; the verifier's takes text, which the entries of seals are."""
    ours = included(leaf_hash(entry), place, size, path, top)
    if entry.isascii():
        theirs = _accepts(verify_proof.check_included, entry.decode(), place, size, b"".join(path), top)
        assert theirs == ours
    return ours


def _both_consistent(first: int, second: int, one: bytes, other: bytes, path: list[bytes]) -> bool:
    ours = consistent(first, second, one, other, path)
    if first:
        theirs = _accepts(verify_proof.check_consistent, first, second, one, other, b"".join(path))
        assert theirs == ours
    return ours


def _root(size: int, tree: Tree) -> bytes:
    return root(size, tree.node)


@pytest.mark.parametrize("size", range(9))
def test_the_published_roots(size: int) -> None:
    assert _root(size, Tree(LEAVES[:size])).hex() == ROOTS[size]
    assert _root(size, Tree(LEAVES)).hex() == ROOTS[size]


@pytest.mark.parametrize(("place", "size", "path"), INCLUSION)
def test_the_published_inclusion_paths(place: int, size: int, path: list[str]) -> None:
    assert inclusion_path(place, size, Tree(LEAVES).node) == _unhex(path)
    assert _both_include(LEAVES[place], place, size, _unhex(path), bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("first", "second", "path"), CONSISTENCY)
def test_the_published_consistency_paths(first: int, second: int, path: list[str]) -> None:
    assert consistency_path(first, second, Tree(LEAVES).node) == _unhex(path)
    assert _both_consistent(first, second, *_unhex([ROOTS[first], ROOTS[second]]), _unhex(path))


@pytest.mark.parametrize(("place", "size", "path"), INCLUSION)
def test_the_probes_of_the_reference_tests_are_refused(place: int, size: int, path: list[str]) -> None:
    """proof/verify_test.go, corruptInclusionProof."""
    entry, right, top = LEAVES[place], _unhex(path), bytes.fromhex(ROOTS[size])
    garbage = bytes(32)
    probes: list[tuple[bytes, int, int, list[bytes], bytes]] = [
        (entry, place + 1, size, right, top),
        (entry, place ^ 2, size, right, top),
        (entry, place, size // 2, right, top),
        (entry, place, size * 2, right, top),
        (b"WrongLeaf", place, size, right, top),
        (entry, place, size, right, bytes.fromhex(ROOTS[0])),
        (entry, place, size, right, garbage),
    ]
    probes += [
        (entry, place, size, path_, top)
        for path_ in ([*right, garbage], [*right, top], [garbage, *right], [top, *right], right[:-1])
        if path_ != right
    ]
    for probe in probes:
        assert not _both_include(*probe)


@pytest.mark.parametrize(("first", "second", "path"), CONSISTENCY[1:])
def test_the_consistency_probes_of_the_reference_tests_are_refused(
    first: int, second: int, path: list[str]
) -> None:
    """proof/verify_test.go, corruptConsistencyProof."""
    right, one, other = _unhex(path), bytes.fromhex(ROOTS[first]), bytes.fromhex(ROOTS[second])
    garbage = bytes(32)
    probes: list[tuple[int, int, bytes, bytes, list[bytes]]] = [
        (first + 1, second, one, other, right),
        (first ^ 2, second, one, other, right),
        (first, second * 2, one, other, right),
        (first, second // 2, one, other, right),
        (first, second, garbage, other, right),
        (first, second, one, garbage, right),
        (first, second, other, one, right),
        (second, first, one, other, right),
    ]
    for path_ in (
        [],
        [*right, garbage],
        [*right, one],
        [*right, other],
        [garbage, *right],
        [one, *right],
        [other, *right],
        [right[0], *right],
        right[:-1],
    ):
        probes.append((first, second, one, other, path_))
    for probe in probes:
        assert not _both_consistent(*probe)


@pytest.mark.parametrize(("place", "size", "path"), INCLUSION)
def test_a_path_beyond_the_root_is_refused_although_what_was_signed_was_made_for_it(
    place: int, size: int, path: list[str]
) -> None:
    """Whoever signs can put a node over the right root: the size alone says how long a path is."""
    right, top, more = _unhex(path), bytes.fromhex(ROOTS[size]), bytes(range(32))
    for over in (node_hash(more, top), node_hash(top, more)):
        assert not _both_include(LEAVES[place], place, size, [*right, more], over)


@pytest.mark.parametrize(("first", "second", "path"), CONSISTENCY)
def test_a_consistency_path_beyond_the_roots_is_refused_although_what_was_signed_was_made_for_it(
    first: int, second: int, path: list[str]
) -> None:
    right, more = _unhex(path), bytes(range(32))
    one, other = (node_hash(more, bytes.fromhex(ROOTS[size])) for size in (first, second))
    assert not _both_consistent(first, second, one, other, [*right, more])


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 70), st.data())
def test_every_path_proves_what_it_should_and_nothing_else(size: int, data: st.DataObject) -> None:
    entries = [b"entry %d" % number for number in range(size)]
    tree = Tree(entries)
    top = _root(size, tree)
    place = data.draw(st.integers(0, size - 1))
    path = inclusion_path(place, size, tree.node)
    assert _both_include(entries[place], place, size, path, top)
    other = data.draw(st.integers(0, size + 1).filter(lambda each: each != place))
    assert not _both_include(entries[place], other, size, path, top)
    assert not _both_include(b"another", place, size, path, top)
    first = data.draw(st.integers(1, size))
    old = _root(first, tree)
    steps = consistency_path(first, size, tree.node)
    assert _both_consistent(first, size, old, top, steps)
    assert not _both_consistent(first, size, bytes(32), top, steps)
    if path or steps:
        bit = data.draw(st.integers(0, 255))
        spot = data.draw(st.integers(0, max(len(path), len(steps)) - 1))
        if spot < len(path):
            assert not _both_include(entries[place], place, size, _flipped(path, spot, bit), top)
        if spot < len(steps):
            assert not _both_consistent(first, size, old, top, _flipped(steps, spot, bit))


def _flipped(path: list[bytes], spot: int, bit: int) -> list[bytes]:
    changed = (int.from_bytes(path[spot], "big") ^ 1 << bit).to_bytes(32, "big")
    return [*path[:spot], changed, *path[spot + 1 :]]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.binary(max_size=5), max_size=40))
def test_the_tree_is_the_recursion_of_the_rfc(entries: list[bytes]) -> None:
    def mth(part: list[bytes]) -> bytes:
        """RFC 6962, section 2.1, word for word."""
        if not part:
            return merkle.sha256(b"").digest()
        if len(part) == 1:
            return merkle.sha256(b"\x00" + part[0]).digest()
        split = 1
        while split * 2 < len(part):
            split *= 2
        return merkle.sha256(b"\x01" + mth(part[:split]) + mth(part[split:])).digest()

    assert _root(len(entries), Tree(entries)) == mth(entries)


@pytest.mark.parametrize(("first", "second"), [(3, 2), (2, 1), (4, 2), (8, 4), (8, 1)])
def test_no_tree_begins_with_a_larger_one(first: int, second: int) -> None:
    """Where the larger one is whole, its root is where the path begins, and would be where it ends."""
    top = bytes.fromhex(ROOTS[3])
    assert not _both_consistent(first, second, top, top, [])


def test_of_every_size_each_path_and_proof_holds() -> None:
    entries = [b"entry %d" % number for number in range(17)]
    for size in range(1, len(entries) + 1):
        tree = Tree(entries[:size])
        top = _root(size, tree)
        paths = [inclusion_path(place, size, tree.node) for place in range(size)]
        assert inclusion_paths([leaf_hash(entry) for entry in entries[:size]]) == (top, paths)
        for place in range(size):
            assert _both_include(entries[place], place, size, paths[place], top)
            steps = consistency_path(place + 1, size, tree.node)
            assert _both_consistent(place + 1, size, _root(place + 1, tree), top, steps)


def test_every_tree_begins_with_the_empty_one() -> None:
    assert consistent(0, 8, bytes(32), bytes.fromhex(ROOTS[8]), [])
    assert not consistent(0, 8, bytes(32), bytes.fromhex(ROOTS[8]), [bytes(32)])


def test_the_verifier_compares_with_no_log_that_is_empty() -> None:
    """No seal is of none; and halving -1 would never come to an end."""
    with pytest.raises(ValueError, match="older than the first"):
        verify_proof.check_consistent(0, 8, bytes(32), bytes.fromhex(ROOTS[8]), b"")
