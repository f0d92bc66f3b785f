"""Signed notes and checkpoints, ours and the verifier's, on the examples of their specifications."""

from base64 import b64encode
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.note import Checkpoint, InvalidNote, Signer, Verifier, checkpoint_of
from scripts import verify_proof

# c2sp.org/signed-note, "Verifier keys", example (C2SP/C2SP, signed-note.md).
SPEC_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n\u2014 example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
# golang.org/x/mod/sumdb/note, the example of its documentation, with its private key.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
)
GO_NOTE = (
    f"{GO_TEXT}\n\u2014 PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# c2sp.org/tlog-cosignature: a checkpoint with the log's signature and a witness's; its keys are not published.
COSIGNED = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "\u2014 example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "\u2014 witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
# RFC 8032, section 7.1: secret key, public key, message, signature of TEST 2 and TEST 3.
RFC_8032 = [
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]
SIGNER = Signer("example.com/log", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
NOTE = SIGNER.sign(Checkpoint("example.com/log", 7, bytes(range(32))).text())


def opened(note: str, vkey: str) -> str | None:
    """The text, as both implementations say; None where both refuse."""
    try:
        ours = Verifier.of(vkey).open(note)
    except InvalidNote:
        ours = None
    try:
        theirs = verify_proof.open_note(note, verify_proof.read_vkey(vkey))
    except ValueError:
        theirs = None
    assert ours == theirs
    return ours


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_ed25519_is_that_of_rfc_8032(seed: str, public: str, message: str, signature: str) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))
    assert key.public_key().public_bytes_raw().hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature


def test_the_examples_of_the_specification_and_of_go_are_verified() -> None:
    assert opened(SPEC_NOTE, SPEC_VKEY) == "This is an example message.\n"
    assert opened(GO_NOTE, GO_VKEY) == GO_TEXT
    assert opened(SPEC_NOTE, GO_VKEY) is None


def test_we_sign_byte_for_byte_as_go_does() -> None:
    seed = verify_proof.from_base64(GO_SEED)[1:]
    signer = Signer("PeterNeumann", Ed25519PrivateKey.from_private_bytes(seed))
    assert signer.verifier.vkey == GO_VKEY
    assert signer.sign(GO_TEXT) == GO_NOTE


def test_the_checkpoint_of_the_specification_is_read() -> None:
    checkpoint = checkpoint_of(COSIGNED.partition("\n\n")[0] + "\n")
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert b64encode(checkpoint.root).decode() == "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
    assert checkpoint.text() == COSIGNED.partition("\n\n")[0] + "\n"


def test_signatures_of_witnesses_are_passed_over() -> None:
    witness = COSIGNED.splitlines()[-1]
    for note in (NOTE + witness + "\n", NOTE.replace("\n\n", f"\n\n{witness}\n")):
        assert opened(note, SIGNER.verifier.vkey) is not None
    assert opened(COSIGNED, SIGNER.verifier.vkey) is None
    sixteen = NOTE + (witness + "\n") * 15
    assert opened(sixteen, SIGNER.verifier.vkey) is not None


def test_a_key_that_shares_only_name_or_id_is_unknown_and_a_bad_signature_of_ours_spoils_the_note() -> None:
    vkey = SIGNER.verifier.vkey
    other = Signer("example.com/log", Ed25519PrivateKey.from_private_bytes(bytes(32)))
    text = NOTE.partition("\n\n")[0] + "\n"
    line = NOTE.splitlines()[-1]
    theirs = other.sign(text).splitlines()[-1]
    assert opened(f"{text}\n{theirs}\n", vkey) is None
    assert opened(f"{text}\n{theirs}\n{line}\n", vkey) == text
    assert opened(f"{text}\n{line.replace('example.com/log', 'example.com/other')}\n", vkey) is None
    forged = b64encode(SIGNER.verifier.key_id + bytes(64)).decode()
    bad = f"\u2014 example.com/log {forged}"
    assert opened(f"{text}\n{line}\n{bad}\n", vkey) is None
    assert opened(f"{text}\n{bad}\n{line}\n", vkey) is None


def test_a_text_may_have_empty_lines_and_the_last_one_parts_it() -> None:
    text = "one\n\ntwo\n\n\nthree\n"
    assert opened(SIGNER.sign(text), SIGNER.verifier.vkey) == text


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n\n",
        "text\n",
        "text\n\n",
        NOTE[:-1],
        NOTE + "\n",
        NOTE + "more\n",
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("\u2014", "-"),
        NOTE.replace("\u2014 ", "\u2014"),
        NOTE.replace("\u2014 ", "\u2014\u00a0"),
        NOTE.replace("\n", "\r\n"),
        "\t" + NOTE,
        NOTE.replace("=\n", "\n"),
        NOTE[:-1] + "=\n",
        NOTE[:-3] + "==\n",
        NOTE.replace("log 1", "log  1"),
        SIGNER.sign("signed, and still\tno note\n"),
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    assert opened(note, SIGNER.verifier.vkey) is None


def test_a_signature_alone_is_no_note_whatever_it_signs() -> None:
    """Without an empty line there is no text; what a reader would put there could have been signed."""
    for text in ("\n", ""):
        alone = SIGNER.sign(text).removeprefix(f"{text}\n")
        assert alone.startswith("\u2014")
        assert opened(alone, SIGNER.verifier.vkey) is None


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(NOTE) - 1), st.characters(codec="utf-8"))
def test_any_changed_letter_is_noticed(spot: int, letter: str) -> None:
    changed = NOTE[:spot] + letter + NOTE[spot + 1 :]
    assert (opened(changed, SIGNER.verifier.vkey) is None) == (changed != NOTE)


def test_every_letter_of_the_base64_alphabet_in_every_place_of_a_signature_is_noticed() -> None:
    """The last letter before the padding has bits to spare: 16 ways to write the same, one is right."""
    begin = NOTE.rindex(" ") + 1
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for spot in (begin, begin + 40, len(NOTE) - 3):
        for letter in alphabet:
            changed = NOTE[:spot] + letter + NOTE[spot + 1 :]
            assert (opened(changed, SIGNER.verifier.vkey) is None) == (changed != NOTE)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "a",
        "a+b",
        "a+b+c",
        GO_VKEY[:-1],
        GO_VKEY + "=",
        GO_VKEY.replace("c74f20a3", "c74f20a4"),
        GO_VKEY.replace("c74f20a3", "C74F20A3"),
        GO_VKEY.replace("Peter", "Peter "),
        GO_VKEY.replace("Peter", "Petra"),
        GO_VKEY.replace("PeterNeumann", ""),
        "example.com/log+7696095a+" + b64encode(b"\x04" + bytes(32)).decode(),  # a witness's kind of key
    ],
)
def test_what_is_no_key_is_refused(vkey: str) -> None:
    with pytest.raises(InvalidNote):
        Verifier.of(vkey)
    with pytest.raises(ValueError, match=r"vkey|base64|padding|number of data"):
        verify_proof.read_vkey(vkey)


@pytest.mark.parametrize(
    ("name", "typed", "is_one"),
    [
        ("example.com/log", b"\x01" + bytes(range(32)), True),
        ("", b"\x01" + bytes(range(32)), False),
        ("example.com log", b"\x01" + bytes(range(32)), False),
        ("example.com\u00a0log", b"\x01" + bytes(range(32)), False),
        ("example.com/log", b"\x02" + bytes(range(32)), False),
        ("example.com/log", b"\x01" + bytes(range(31)), False),
        ("example.com/log", b"\x01" + bytes(range(33)), False),
    ],
)
def test_a_key_that_is_none_is_refused_also_under_its_right_id(name: str, typed: bytes, is_one: bool) -> None:
    """The id is a hash that anybody can make: it says only that nothing was lost."""
    key_id = sha256(name.encode() + b"\n" + typed).digest()[:4]
    vkey = f"{name}+{key_id.hex()}+{b64encode(typed).decode()}"
    if is_one:
        assert (Verifier.of(vkey).name, verify_proof.read_vkey(vkey)) == (name, (name, key_id, typed[1:]))
        return
    with pytest.raises(InvalidNote, match="no key like"):
        Verifier.of(vkey)
    with pytest.raises(ValueError, match="the vkey is not one"):
        verify_proof.read_vkey(vkey)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "origin\n7\n",
        f"origin\n07\n{b64encode(bytes(32)).decode()}\n",
        f"origin\n-7\n{b64encode(bytes(32)).decode()}\n",
        f"origin\n7\n{b64encode(bytes(31)).decode()}\n",
        f"\n7\n{b64encode(bytes(32)).decode()}\n",
        f"origin\n7\n{b64encode(bytes(32)).decode()}\n\n",
        f"origin\n7\n{b64encode(bytes(32)).decode()}",
        f"origin\n7\n{b64encode(bytes(32)).decode()[:-2]}B=\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(InvalidNote):
        checkpoint_of(text)
    with pytest.raises(ValueError, match=r"checkpoint|base64|note"):
        verify_proof.open_checkpoint(SIGNER.sign(text), verify_proof.read_vkey(SIGNER.verifier.vkey), "origin")


def test_extension_lines_are_passed_over_and_the_origin_must_be_the_expected_one() -> None:
    key = verify_proof.read_vkey(SIGNER.verifier.vkey)
    text = Checkpoint("example.com/log", 7, bytes(32)).text() + "extension\n"
    assert verify_proof.open_checkpoint(SIGNER.sign(text), key, "example.com/log") == (7, bytes(32))
    assert checkpoint_of(text) == Checkpoint("example.com/log", 7, bytes(32))
    with pytest.raises(ValueError, match="of the log that it should be of"):
        verify_proof.open_checkpoint(SIGNER.sign(text), key, "example.com/log/receipts")


def test_a_public_key_is_what_a_vkey_carries() -> None:
    verifier = Verifier.of(GO_VKEY)
    raw = verify_proof.read_vkey(GO_VKEY)[2]
    assert Verifier("PeterNeumann", Ed25519PublicKey.from_public_bytes(raw)).vkey == verifier.vkey == GO_VKEY
