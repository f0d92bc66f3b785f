"""A stand-in for the WeChat API, for development and for the tests: `python -m scripts.sandbox_wechat`.

It answers `/sns/jscode2session` as the real one does: JSON as text/plain, errors in a 200, codes that work
once and for five minutes. It holds no real secret and listens on loopback only.

Codes:
  dev-NAME, dev-NAME-ANYTHING   log in the sandbox user NAME, whose openid is always the same
  fault-KIND, fault-KIND-ANYTHING   answer with a fault; KIND is an errcode (40226, or busy for -1), or
      slow, trickle, html, empty, huge, drop, redirect, status500, nosession, errcode0 (success with
      "errcode": 0), busytwice (-1 twice, then success)
  any other   must have been made by /sandbox/code

For tests and demonstrations, beside the API:
  /sandbox/code?user=NAME&age_s=N    a code such as wx.login returns, made N seconds ago
  /sandbox/userinfo?user=NAME&nickName=...&avatarUrl=...   what wx.getUserInfo returns to that user's client
  /sandbox/session_key?user=NAME     that user's session key, which the real WeChat tells nobody
  /sandbox/calls                     the number of times that jscode2session was called with each code
"""

import argparse
import base64
import json
import secrets
import socket
import string
import sys
import threading
import time
from collections import Counter
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

APPID: Final = "wxsandbox000000000"
SECRET: Final = "sandbox-secret-not-a-secret"  # noqa: S105 - accepted by nobody but this program
CODE_LIFE_S: Final = 300
_SLOW_S: Final = 30
_MAX_USER_CHARACTERS: Final = 64

_ERRMSG: Final = {
    -1: "system error",
    40029: "invalid code",
    40163: "code been used",
    40013: "invalid appid",
    40125: "invalid appsecret",
    40226: "code blocked",
    45011: "api minute-quota reach limit",
    41008: "missing code",
}


def openid_of(user: str) -> str:
    """The openid of a sandbox user: 28 characters, as WeChat's are, and always the same."""
    digest = sha256(b"sandbox user " + user.encode()).digest()
    return "o" + base64.urlsafe_b64encode(digest).decode()[:27]


class Wechat:
    """The state of the pretended WeChat: which codes exist and were used, and each user's session key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[str, tuple[str, float]] = {}
        self._used: set[str] = set()
        self._session_keys: dict[str, str] = {}
        self.calls: Counter[str] = Counter()

    def make_code(self, user: str, age_s: float) -> str:
        code = "0" + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(31))
        with self._lock:
            self._made[code] = (user, time.monotonic() - age_s)
        return code

    def session_key(self, user: str) -> str:
        with self._lock:
            return self._session_keys.setdefault(user, _new_session_key())

    def exchange(self, query: dict[str, str]) -> dict[str, Any]:
        """The answer to `jscode2session`; a code that is good is spent by it."""
        if query.get("appid") != APPID:
            return _error(40013)
        if query.get("secret") != SECRET:
            return _error(40125)
        code = query.get("js_code", "")
        if not code or query.get("grant_type") != "authorization_code":
            return _error(41008)
        with self._lock:
            if code in self._used:
                return _error(40163)
            user = self._holder(code)
            if user is None:
                return _error(40029)
            self._used.add(code)
            self._session_keys[user] = session_key = _new_session_key()
        return {"session_key": session_key, "openid": openid_of(user)}

    def _holder(self, code: str) -> str | None:
        kind, _, rest = code.partition("-")
        if kind in ("dev", "fault"):
            return rest.partition("-")[0] or None
        user, made_at = self._made.get(code, (None, 0.0))
        return user if time.monotonic() - made_at <= CODE_LIFE_S else None


def signed_user_info(user: str, session_key: str, profile: dict[str, str]) -> dict[str, str]:
    """What `wx.getUserInfo` hands to a client: rawData, signature, encryptedData, iv (official algorithm)."""
    raw_data = json.dumps(profile, ensure_ascii=False, separators=(",", ":"))
    watermark = {"timestamp": int(time.time()), "appid": APPID}
    whole = json.dumps({"openId": openid_of(user), **profile, "watermark": watermark}, ensure_ascii=False)
    padder, iv = PKCS7(128).padder(), secrets.token_bytes(16)
    cipher = Cipher(algorithms.AES(base64.b64decode(session_key)), modes.CBC(iv)).encryptor()
    padded = padder.update(whole.encode()) + padder.finalize()
    return {
        "rawData": raw_data,
        "signature": sha1((raw_data + session_key).encode(), usedforsecurity=False).hexdigest(),
        "encryptedData": base64.b64encode(cipher.update(padded) + cipher.finalize()).decode(),
        "iv": base64.b64encode(iv).decode(),
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wechat: Wechat

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/sns/jscode2session":
            self._jscode2session(query)
        elif parts.path == "/sandbox/calls":
            self._json(self.wechat.calls)
        elif not 1 <= len(query.get("user", "")) <= _MAX_USER_CHARACTERS:
            self._answer(404, "text/plain", b"see the head of scripts/sandbox_wechat.py for what is here")
        elif parts.path == "/sandbox/code":
            self._json({"code": self.wechat.make_code(query["user"], float(query.get("age_s", "0")))})
        elif parts.path == "/sandbox/session_key":
            self._json({"session_key": self.wechat.session_key(query["user"])})
        elif parts.path == "/sandbox/userinfo":
            user = query.pop("user")
            self._json(signed_user_info(user, self.wechat.session_key(user), query))
        else:
            self._answer(404, "text/plain", b"see the head of scripts/sandbox_wechat.py for what is here")

    def _jscode2session(self, query: dict[str, str]) -> None:
        code = query.get("js_code", "")
        self.wechat.calls[code] += 1
        if code.startswith("fault-"):
            self._fault(code, code.split("-")[1], query)
        else:
            self._json(self.wechat.exchange(query))

    def _fault(self, code: str, kind: str, query: dict[str, str]) -> None:
        if kind.isdigit() or kind == "busy":
            self._json(_error(-1 if kind == "busy" else int(kind)))
        elif kind == "busytwice":
            self._json(_error(-1) if self.wechat.calls[code] <= 2 else self.wechat.exchange(query))
        elif kind == "errcode0":
            self._json({**self.wechat.exchange(query), "errcode": 0, "errmsg": "ok"})
        elif kind == "nosession":
            self._json({"openid": openid_of(kind)})
        elif kind == "html":
            self._answer(200, "text/html", b"<html><body>502 Bad Gateway</body></html>")
        elif kind == "status500":
            self._answer(500, "text/plain", json.dumps(self.wechat.exchange(query)).encode())
        elif kind == "redirect":
            self.send_response(302)
            self.send_header("Location", self.path.replace("fault-redirect", "dev-redirected"))
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif kind == "empty":
            self._answer(200, "text/plain", b"")
        elif kind == "huge":
            self._answer(200, "text/plain", b'{"openid":"' + b"o" * 200_000 + b'"}')
        elif kind == "slow":
            time.sleep(_SLOW_S)
            self._json(self.wechat.exchange(query))
        elif kind == "trickle":
            self._trickle()
        elif kind == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        else:
            self._json(_error(40029))

    def _trickle(self) -> None:
        """A head that goes on and on, a byte at a time: no single read ever waits long."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Trickle: ")
        self.close_connection = True
        for _ in range(_SLOW_S * 5):
            try:
                self.wfile.write(b".")
            except OSError:
                return
            time.sleep(0.2)

    def _json(self, answer: dict[str, Any]) -> None:
        self._answer(200, "text/plain", json.dumps(answer, ensure_ascii=False).encode())

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the address holds the code and the secret."""


def _new_session_key() -> str:
    return base64.b64encode(secrets.token_bytes(16)).decode()


def _error(errcode: int) -> dict[str, Any]:
    message = _ERRMSG.get(errcode, "error")
    return {"errcode": errcode, "errmsg": f"{message}, rid: {secrets.token_hex(4)}-{secrets.token_hex(4)}"}


class Sandbox(ThreadingHTTPServer):
    """The stand-in on a loopback port; 0 takes a free one, `server_port` says which."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a client that left; anything else is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def __init__(self, port: int) -> None:
        handler = type("Handler", (_Handler,), {"wechat": Wechat()})
        super().__init__(("127.0.0.1", port), handler)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="loopback port to listen on (default: a free one)")
    sandbox = Sandbox(parser.parse_args().port)
    print(f"http://127.0.0.1:{sandbox.server_port}", flush=True)
    try:
        sandbox.serve_forever()
    except KeyboardInterrupt:
        sandbox.server_close()


if __name__ == "__main__":
    main()
