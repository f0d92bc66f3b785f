"""The signed and encrypted profile that `wx.getUserInfo` hands to a client, and what of it can be believed.

Source: WeChat's "signature verification and data decryption" page; vectors in tests/wechat_vectors.json.
"""

import base64
import binascii
import hmac
from hashlib import sha1
from typing import Final

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

# What versions released since 2021 get instead of a person's own name; it never replaces a chosen one.
ANONYMOUS_NICKNAME: Final = "微信用户"
_BLOCK_BYTES: Final = 16


class BadUserData(Exception):
    """The data is not what WeChat signed for this session key, this mini-program or this person."""


class Watermark(msgspec.Struct):
    appid: str


class UserInfo(msgspec.Struct):
    """The decrypted profile; other fields are there and not kept."""

    watermark: Watermark
    openid: str | None = msgspec.field(name="openId", default=None)
    nickname: str = msgspec.field(name="nickName", default="")
    avatar: str = msgspec.field(name="avatarUrl", default="")


_decoder = msgspec.json.Decoder(UserInfo)


def is_signed(raw_data: str, signature: str, session_key: str) -> bool:
    """Whether `signature` is the SHA-1 over the bytes of `raw_data` and the session key as text, in hex."""
    expected = sha1(raw_data.encode() + session_key.encode(), usedforsecurity=False).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode())


def decrypt(encrypted_data: str, iv: str, session_key: str, appid: str) -> UserInfo:
    """The profile in `encrypted_data` (AES-128-CBC, PKCS#7, base64 all), or BadUserData.

    CBC authenticates nothing, so a wrong key unpads cleanly once in 250 times: check the signature first,
    and the openid of the result afterwards.
    """
    key, vector = _base64(session_key), _base64(iv)
    ciphertext = _base64(encrypted_data)
    if len(key) != _BLOCK_BYTES or len(vector) != _BLOCK_BYTES:
        raise BadUserData("session_key and iv are 16 bytes each")
    if not ciphertext or len(ciphertext) % _BLOCK_BYTES:
        raise BadUserData("encryptedData is not a number of whole blocks")
    cipher = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
    unpadder = PKCS7(_BLOCK_BYTES * 8).unpadder()
    try:
        plaintext = unpadder.update(cipher.update(ciphertext) + cipher.finalize()) + unpadder.finalize()
        info = _decoder.decode(plaintext)
    except (ValueError, RecursionError):  # the padding, or a DecodeError, which is a ValueError too
        raise BadUserData("encryptedData does not decrypt to a profile") from None
    if info.watermark.appid != appid:
        raise BadUserData("the profile is another mini-program's")
    return info


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        raise BadUserData("not base64") from None
