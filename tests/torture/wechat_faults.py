"""Every way in which WeChat may fail to say who somebody is, and what the service must make of each."""

import gzip
import socket
import struct
import threading
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

_SESSION_KEY: Final = b"MDEyMzQ1Njc4OWFiY2RlZg=="
_AT_ONCE: Final = struct.pack("ii", 1, 0)
_DRIP_S: Final = 0.1
_MIB: Final = 2**20


class Conversation(NamedTuple):
    """A request that was read from `client`; `openid` is the person's whose code it is."""

    client: socket.socket
    openid: str
    address: str
    ended: threading.Event


class Fault(NamedTuple):
    """What WeChat does, and the failures of which a login must then be told one."""

    act: Callable[[Conversation], None]
    told: frozenset[str]


def sound(openid: str) -> bytes:
    return b'{"session_key":"%s","openid":"%s"}' % (_SESSION_KEY, openid.encode())


def answered(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """As WeChat does: JSON as text/plain."""
    head = [b"HTTP/1.1 " + status, b"Content-Type: text/plain", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


# -- answers that are right, in every form that HTTP has for them ------------------------------------------


def _right(raw: bytes, talk: Conversation) -> None:
    """BODY stands for the sound answer."""
    talk.client.sendall(raw.replace(b"BODY", sound(talk.openid)))


def _right_at_last(talk: Conversation) -> None:
    talk.ended.wait(1)
    talk.client.sendall(answered(sound(talk.openid)))


def _right_and_one_more(talk: Conversation) -> None:
    """An answer that nobody asked for must not be the next login's."""
    talk.client.sendall(answered(sound(talk.openid)) + answered(sound("oSomebodyElse")))


def _right_and_closed(talk: Conversation) -> None:
    """Without a length, it ends where the connection does."""
    _right(_HEAD + b"\r\nBODY", talk)
    talk.client.shutdown(socket.SHUT_RDWR)


_HEAD: Final = b"HTTP/1.1 200 OK\r\n"
RIGHT: Final[dict[str, Callable[[Conversation], None]]] = {
    "good": lambda talk: talk.client.sendall(answered(sound(talk.openid))),
    "errcode_zero": lambda talk: talk.client.sendall(answered(sound(talk.openid)[:-1] + b',"errcode":0}')),
    "unionid": lambda talk: talk.client.sendall(answered(sound(talk.openid)[:-1] + b',"unionid":"u"}')),
    "gzip": lambda talk: _gzip(gzip.compress(sound(talk.openid)), talk),
    "cookie": lambda talk: talk.client.sendall(
        answered(sound(talk.openid), b"Set-Cookie: whose=" + b"c" * 999)
    ),
    "late": _right_at_last,
    "two_answers": _right_and_one_more,
    "closed": _right_and_closed,
}

# -- answers that are whole, and wrong: ID and KEY stand for a sound openid and session_key ----------------

_WRONG: Final[dict[str, bytes]] = {
    "openid_number": b'{"session_key":"KEY","openid":7}',
    "openid_true": b'{"session_key":"KEY","openid":true}',
    "openid_null": b'{"session_key":"KEY","openid":null}',
    "openid_list": b'{"session_key":"KEY","openid":["ID"]}',
    "openid_object": b'{"session_key":"KEY","openid":{"openid":"ID"}}',
    "openid_empty": b'{"session_key":"KEY","openid":""}',
    "openid_missing": b'{"session_key":"KEY"}',
    "openid_long": b'{"session_key":"KEY","openid":"' + b"o" * 129 + b'"}',
    "openid_space": b'{"session_key":"KEY","openid":"ID "}',
    "openid_line": b'{"session_key":"KEY","openid":"ID\\n"}',
    "openid_nul": b'{"session_key":"KEY","openid":"ID\\u0000"}',
    "openid_surrogate": b'{"session_key":"KEY","openid":"ID\\ud800"}',
    "openid_chinese": '{"session_key":"KEY","openid":"ID张三"}'.encode(),
    "openid_bytes": b'{"session_key":"KEY","openid":"ID\xff"}',
    "two_openids": b'{"openid":"oSomebodyElse","session_key":"KEY","openid":"ID"}',
    "two_errcodes": b'{"errcode":40029,"session_key":"KEY","openid":"ID","errcode":0}',
    "key_number": b'{"session_key":7,"openid":"ID"}',
    "key_short": b'{"session_key":"MDEy","openid":"ID"}',
    "key_missing": b'{"openid":"ID"}',
    "unionid_number": b'{"session_key":"KEY","openid":"ID","unionid":7}',
    "errcode_text": b'{"session_key":"KEY","openid":"ID","errcode":"0"}',
    "errcode_null": b'{"session_key":"KEY","openid":"ID","errcode":null}',
    "errcode_half": b'{"session_key":"KEY","openid":"ID","errcode":0.5}',
    "errcode_nan": b'{"session_key":"KEY","openid":"ID","errcode":NaN}',
    "errcode_1e400": b'{"session_key":"KEY","openid":"ID","errcode":1e400}',
    "errcode_digits": b'{"session_key":"KEY","openid":"ID","errcode":' + b"9" * 5000 + b"}",
    "errcode_unknown": b'{"session_key":"KEY","openid":"ID","errcode":99999}',
    "cut_off": b'{"session_key":"KEY","openid":"ID"',
    "comma": b'{"session_key":"KEY","openid":"ID",}',
    "twice": b'{"session_key":"KEY","openid":"ID"}{"session_key":"KEY","openid":"ID"}',
    "list": b'[{"session_key":"KEY","openid":"ID"}]',
    "text": b'"{}"',
    "number": b"0",
    "null": b"null",
    "nothing": b"",
    "html": b"<html><body>502 Bad Gateway</body></html>",
    "mark": b'\xef\xbb\xbf{"session_key":"KEY","openid":"ID"}',
    "utf16": '{"session_key":"KEY","openid":"ID"}'.encode("utf-16"),
    "deep": b"[" * 30_000,
    "deep_object": b'{"openid":"ID","session_key":"KEY","x":' + b'{"x":' * 10_000,
    "spaces": b'{"session_key":"KEY","openid":"ID"}' + b" " * 65536,
    "ten_mib": b'{"session_key":"KEY","openid":"ID","pad":"' + b"a" * (10 * _MIB) + b'"}',
}
_BOMB: Final = gzip.compress(b" " * (64 * _MIB), 9)


def _wrong(body: bytes, talk: Conversation) -> None:
    body = body.replace(b"ID", talk.openid.encode(), 1).replace(b"KEY", _SESSION_KEY, 1)
    talk.client.sendall(answered(body))


def _errcode(errcode: int, talk: Conversation) -> None:
    body = sound(talk.openid)[:-1] + b',"errcode":%d,"errmsg":"rid: 0-1"}' % errcode
    talk.client.sendall(answered(body))


def _status(status: bytes, talk: Conversation) -> None:
    talk.client.sendall(answered(sound(talk.openid), status=status))


def _redirect(talk: Conversation) -> None:
    elsewhere = talk.address.replace("redirect-", "good-").replace("/sns/", "/elsewhere/")
    talk.client.sendall(answered(b"", b"Location: " + elsewhere.encode(), status=b"302 Found"))


def _gzip(body: bytes, talk: Conversation) -> None:
    talk.client.sendall(answered(body, b"Content-Encoding: gzip"))


# -- answers that end too early, or are none ---------------------------------------------------------------


def _reset(sent: int, talk: Conversation) -> None:
    talk.client.sendall(answered(sound(talk.openid))[:sent])
    talk.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    talk.client.close()


def _hang_up(sent: int, talk: Conversation) -> None:
    talk.client.sendall(answered(sound(talk.openid))[:sent])
    talk.client.shutdown(socket.SHUT_RDWR)


def _instead(raw: bytes, talk: Conversation) -> None:
    talk.client.sendall(raw)
    talk.client.shutdown(socket.SHUT_RDWR)


# -- answers that take for ever: longer than anybody waits, or until the stand-in ends ---------------------


def _hang(talk: Conversation) -> None:
    talk.client.recv(1)


def _drip(start: bytes, again: bytes, talk: Conversation) -> None:
    """No single read ever waits long."""
    talk.client.sendall(start.replace(b"BODY", sound(talk.openid)))
    while not talk.ended.wait(_DRIP_S):
        talk.client.sendall(again)


_BAD: Final = frozenset({"wechat-bad-answer"})
_LOST: Final = frozenset({"wechat-unreachable"})

_ERRCODES: Final = {
    -1: "wechat-busy",
    40029: "code-invalid",
    42003: "code-invalid",
    40163: "code-used",
    40226: "login-blocked",
    45011: "login-rate-limited",
    45009: "wechat-quota",
    40013: "wechat-misconfigured",
    40243: "wechat-misconfigured",
}

QUICK: Final[dict[str, Fault]] = (
    {kind: Fault(partial(_wrong, body), _BAD) for kind, body in _WRONG.items()}
    | {
        f"errcode_{number}".replace("-", "minus"): Fault(partial(_errcode, number), frozenset({failure}))
        for number, failure in _ERRCODES.items()
    }
    | {
        f"status_{status[:3].decode()}": Fault(partial(_status, status), _BAD)
        for status in (b"201 Created", b"404 Not Found", b"429 Slow Down", b"500 Oh", b"503 Later")
    }
    | {
        "redirect": Fault(_redirect, _BAD),
        "bomb": Fault(partial(_gzip, _BOMB), _BAD),
        "no_gzip": Fault(partial(_gzip, b"{}"), _LOST),
        "half_a_gzip": Fault(partial(_gzip, gzip.compress(b"{}" * 99)[:20]), _BAD | _LOST),
        "reset": Fault(partial(_reset, 0), _LOST),
        "reset_in_head": Fault(partial(_reset, 30), _LOST),
        "reset_in_body": Fault(partial(_reset, 90), _LOST),
        "hang_up": Fault(partial(_hang_up, 0), _LOST),
        "hang_up_in_head": Fault(partial(_hang_up, 30), _LOST | _BAD),
        "hang_up_in_body": Fault(partial(_hang_up, 90), _LOST),
        "garbage": Fault(partial(_instead, b"\x00\xff\r\n\r\n" * 99), _LOST),
        "many_headers": Fault(partial(_instead, _HEAD + b"X: y\r\n" * 5000 + b"\r\n"), _LOST),
        "huge_header": Fault(partial(_instead, _HEAD + b"X: " + b"y" * _MIB + b"\r\n\r\n{}"), _LOST),
        "bad_chunk": Fault(
            partial(_instead, _HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"), _LOST
        ),
        "negative_length": Fault(partial(_instead, _HEAD + b"Content-Length: -1\r\n\r\n{}"), _LOST | _BAD),
    }
)
SLOW: Final[dict[str, Fault]] = {
    "hang": Fault(_hang, _LOST),
    "drip_head": Fault(partial(_drip, _HEAD + b"X-Drip: ", b"."), _LOST),
    "drip_body": Fault(partial(_drip, _HEAD + b"Content-Length: 9999\r\n\r\nBODY", b" "), _LOST),
    "drip_on": Fault(partial(_drip, _HEAD + b"\r\nBODY", b" "), _LOST),
    "drip_chunks": Fault(partial(_drip, _HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"), _LOST),
    "drip_continues": Fault(partial(_drip, b"", b"HTTP/1.1 100 Continue\r\n\r\n"), _LOST),
}
FAULTS: Final = QUICK | SLOW
