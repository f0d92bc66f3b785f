"""The Merkle-sum tree against its definition, and that nothing but what is there can be proved in it."""

import hashlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.sums import NOTHING, Node, Step, account_key, climb, join, leaf, pack_path, path_of, root_of
from scripts import verify_proof

# Keys that share long beginnings, as SHA-256 never would, so that the trie is deep in places.
KEYS = st.one_of(
    st.integers(0, 2**256 - 1),
    st.integers(0, 7),
    st.integers(0, 7).map(lambda low: 2**255 + low),
    st.integers(0, 255).map(lambda bit: 1 << bit),
)
LEAVES = st.dictionaries(KEYS, st.integers(0, 2**53 - 1), max_size=12)
# A Node of the verifier has its key and depth too.
VERIFIER_LEAF = verify_proof.Node


def _entries(leaves: dict[int, int]) -> list[tuple[int, Node]]:
    return [
        (key, leaf(key.to_bytes(32, "big"), 1, bytes(32), credit, 0)) for key, credit in sorted(leaves.items())
    ]


def _defined(entries: list[tuple[int, Node]], depth: int = 0) -> Node:
    """The definition: at each bit to the left or to the right, and an empty side is left out."""
    if not entries:
        return NOTHING
    if len(entries) == 1:
        return entries[0][1]
    bit = 1 << (255 - depth)
    left = [entry for entry in entries if not entry[0] & bit]
    right = [entry for entry in entries if entry[0] & bit]
    if not left or not right:
        return _defined(left or right, depth + 1)
    one, other = _defined(left, depth + 1), _defined(right, depth + 1)
    return _branch(depth, one, other)


def _branch(depth: int, left: Node, right: Node) -> Node:
    packed = left.hash + left.sum.to_bytes(16, "big") + right.hash + right.sum.to_bytes(16, "big")
    return Node(hashlib.sha256(b"\x01" + bytes([depth]) + packed).digest(), left.sum + right.sum)


def _verifiers_leaf(key: int, node: Node) -> tuple[object, ...]:
    return VERIFIER_LEAF(key, 256, node.hash, node.sum, None, None)


def _verifier_climbs(key: int, node: Node, packed: bytes) -> Node:
    top = verify_proof.climb(_verifiers_leaf(key, node), packed)
    return Node(top.hash, top.sum)


@settings(deadline=None, max_examples=100)
@given(LEAVES)
def test_the_root_is_what_the_definition_says_and_its_sum_the_total(leaves: dict[int, int]) -> None:
    entries = _entries(leaves)
    assert root_of(entries) == _defined(entries)
    assert root_of(entries).sum == sum(leaves.values())


@settings(deadline=None, max_examples=60)
@given(LEAVES, st.randoms(use_true_random=False))
def test_the_verifiers_tree_is_the_same_in_whatever_order_it_grows(
    leaves: dict[int, int], chance: random.Random
) -> None:
    tree = None
    entries = _entries(leaves)
    again = [(key, join(0, node, node)) for key, node in entries]  # what stood there before
    for key, node in [*chance.sample(again, len(again)), *chance.sample(entries, len(entries))]:
        tree = verify_proof.put(tree, _verifiers_leaf(key, node))
    assert (Node(tree.hash, tree.sum) if tree else NOTHING) == root_of(entries)


@settings(deadline=None, max_examples=60)
@given(LEAVES.filter(bool))
def test_a_path_leads_from_every_leaf_to_the_root(leaves: dict[int, int]) -> None:
    entries = _entries(leaves)
    for key, node in entries:
        path = path_of(key, entries)
        assert climb(key, node, path) == root_of(entries)
        assert _verifier_climbs(key, node, pack_path(path)) == root_of(entries)


@settings(deadline=None, max_examples=150)
@given(LEAVES.filter(bool), st.data())
def test_any_changed_bit_of_a_path_leads_elsewhere(leaves: dict[int, int], data: st.DataObject) -> None:
    entries = _entries(leaves)
    key, node = data.draw(st.sampled_from(entries))
    packed = bytearray(pack_path(path_of(key, entries)))
    if not packed:
        return
    bit = data.draw(st.integers(0, 8 * len(packed) - 1))
    packed[bit // 8] ^= 1 << bit % 8
    try:
        top = _verifier_climbs(key, node, bytes(packed))
    except ValueError:
        return
    assert top != root_of(entries)


@pytest.mark.parametrize(
    "climbs",
    [climb, lambda key, node, path: _verifier_climbs(key, node, pack_path(path))],
    ids=["ledger", "verifier"],
)
@pytest.mark.parametrize("depth", [1, 2, 7, 8, 100, 255])
def test_of_two_leaves_of_one_account_in_a_root_one_can_be_proved_whatever_depth_is_claimed(
    climbs: Callable[[int, Node, list[Step]], Node], depth: int
) -> None:
    """A dishonest operator makes the root by hand, over what he shows to one and what he shows to another."""
    openid = account_key(b"oAnna")
    key = int.from_bytes(openid, "big")
    leaves = [leaf(openid, 2, bytes(32), 100, 0), leaf(openid, 1, bytes(32), 5, 0)]
    others = leaf(account_key(b"oBo"), 1, bytes(32), 7, 0)
    both = _branch(depth, leaves[0], leaves[1])
    root = _branch(0, others, both) if key >> 255 else _branch(0, both, others)
    ways = [(at, claimed) for at in (0, 1) for claimed in range(1, 256)]
    shown = [
        (at, claimed)
        for at, claimed in ways
        if climbs(key, leaves[at], [Step(claimed, leaves[1 - at]), Step(0, others)]) == root
    ]
    assert shown == [(key >> 255 - depth & 1, depth)]


@settings(deadline=None, max_examples=60)
@given(LEAVES.filter(lambda leaves: len(leaves) > 1), st.data())
def test_no_other_credit_and_no_other_key_leads_to_the_root(
    leaves: dict[int, int], data: st.DataObject
) -> None:
    entries = _entries(leaves)
    key, node = data.draw(st.sampled_from(entries))
    path = path_of(key, entries)
    assert climb(key, Node(node.hash, node.sum + 1), path) != root_of(entries)
    assert climb(key ^ 1 << (255 - path[-1].depth), node, path) != root_of(entries)


def test_each_part_of_a_leaf_is_in_its_hash() -> None:
    key = account_key(b"oAnna")
    right = (key, 3, bytes(range(32)), 5, 7)
    others = [(account_key(b"oBo"), *right[1:]), (key, 4, *right[2:]), (*right[:2], bytes(32), 5, 7)]
    others += [(*right[:3], 6, 7), (*right[:4], 8)]
    hashes = {leaf(*each).hash for each in [right, *others]}
    assert len(hashes) == 6
    packed = b"\x00" + key + (3).to_bytes(8, "big") + bytes(range(32)) + (5).to_bytes(8, "big")
    assert leaf(*right).hash == hashlib.sha256(packed + (7).to_bytes(8, "big")).digest()


def test_a_negative_or_overlong_sum_cannot_be_hashed() -> None:
    for bad in (-1, 2**128):
        with pytest.raises(OverflowError):
            join(0, Node(bytes(32), bad), Node(bytes(32), 1))


STEP = bytes((7, 1, 5)) + bytes(32)


@pytest.mark.parametrize(
    "packed",
    [
        STEP[:-1],
        STEP + b"\x00",
        bytes((7, 16)) + b"\x01" + bytes(15) + bytes(32),  # a sum that could make another run over
        bytes((7, 255)) + b"\x01" * 254 + bytes(32),
        bytes((7, 2, 0, 5)) + bytes(32),  # not the shortest way to write it
        bytes((7, 1, 0)) + bytes(32),
        STEP + STEP,  # not upwards
        STEP + bytes((8, 1, 5)) + bytes(32),
    ],
)
def test_a_path_that_is_none_is_refused(packed: bytes) -> None:
    node = leaf(account_key(b"oAnna"), 1, bytes(32), 5, 0)
    with pytest.raises(ValueError, match="path"):
        _verifier_climbs(5, node, packed)


def test_a_step_over_no_credit_may_have_any_hash() -> None:
    """A sum of no bytes has no first byte: that of the hash behind it may be zero."""
    node = leaf(account_key(b"oAnna"), 1, bytes(32), 5, 0)
    step = Step(7, Node(bytes(32), 0))
    assert pack_path([step]) == bytes((7, 0)) + bytes(32)
    assert _verifier_climbs(5, node, pack_path([step])) == climb(5, node, [step])


@pytest.mark.parametrize("depths", [[256], [-1], [3, 3], [3, 4]])
def test_depths_lead_upwards_only(depths: list[int]) -> None:
    with pytest.raises(ValueError, match="from the depth of its leaf to the root"):
        climb(5, Node(bytes(32), 1), [Step(depth, Node(bytes(32), 1)) for depth in depths])


def test_a_path_in_a_tree_of_20000_accounts_is_small() -> None:
    """Of 1,000,000 accounts it is about 6 steps longer, and still far below 1 KiB."""
    chance = random.Random(7)
    entries = sorted(
        (
            int.from_bytes(account_key(b"o%d" % number), "big"),
            Node(chance.randbytes(32), chance.randrange(10_000)),
        )
        for number in range(20_000)
    )
    longest = max(len(pack_path(path_of(entries[spot][0], entries))) for spot in range(0, 20_000, 4_001))
    assert longest < 800
