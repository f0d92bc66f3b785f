"""The signed profile: WeChat's own vectors, and each way in which it can be wrong."""

import base64
import json
import secrets
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from api.userdata import BadUserData, decrypt, is_signed
from scripts.sandbox_wechat import signed_user_info
from tests.conftest import PATIENCE_S, Sandbox, Service

VECTORS = json.loads((Path(__file__).parent / "wechat_vectors.json").read_text())
DEMO = VECTORS["decrypt"]


def test_the_official_decryption_demo() -> None:
    info = decrypt(DEMO["encryptedData"], DEMO["iv"], DEMO["sessionKey"], DEMO["appId"])
    assert info.openid == DEMO["plaintext"]["openId"]
    assert info.nickname == "Band"
    assert info.avatar == DEMO["plaintext"]["avatarUrl"]


def test_the_official_signature() -> None:
    vector = VECTORS["signature"]
    assert is_signed(vector["rawData"], vector["signature"], vector["sessionKey"])
    assert not is_signed(vector["rawData"] + " ", vector["signature"], vector["sessionKey"])
    assert not is_signed(vector["rawData"], vector["signature"], DEMO["sessionKey"])
    assert not is_signed(vector["rawData"], "签名", vector["sessionKey"])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"appid": "wx0000000000000000"}, "another mini-program"),
        ({"session_key": "AAAAAAAAAAAAAAAAAAAAAA=="}, "does not decrypt"),
        ({"session_key": "AAAA"}, "16 bytes"),
        ({"iv": "AAAA"}, "16 bytes"),
        ({"iv": "!" + DEMO["iv"][1:]}, "base64"),
        ({"iv": DEMO["iv"] + "\n"}, "base64"),
        ({"encrypted_data": ""}, "whole blocks"),
        ({"encrypted_data": "AAAA"}, "whole blocks"),
        ({"encrypted_data": "中文"}, "base64"),
        ({"encrypted_data": "A" * 64}, "does not decrypt"),
    ],
)
def test_whatever_does_not_fit_is_refused(change: dict[str, str], what: str) -> None:
    given = {
        "encrypted_data": DEMO["encryptedData"],
        "iv": DEMO["iv"],
        "session_key": DEMO["sessionKey"],
        "appid": DEMO["appId"],
    }
    with pytest.raises(BadUserData, match=what):
        decrypt(**(given | change))


def test_a_wrong_key_that_happens_to_unpad_is_refused_too() -> None:
    """CBC authenticates nothing: about one wrong key in 250 leaves padding that looks right."""
    unpadded = 0
    for number in range(2000):
        key = number.to_bytes(16, "big")
        cipher = Cipher(algorithms.AES(key), modes.CBC(bytes(16))).decryptor()
        block = cipher.update(bytes(32)) + cipher.finalize()
        unpadded += block[-1] in range(1, 17) and block.endswith(bytes([block[-1]]) * block[-1])
        with pytest.raises(BadUserData):
            decrypt("A" * 42 + "A=", "A" * 22 + "==", _base64(key), DEMO["appId"])
    assert unpadded, "at least one of these keys does unpad"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def post(service: Service, token: str, signed: dict[str, str]) -> dict[str, object]:
    answer = requests.post(f"{service.url}/userinfo", params={"token": token}, json=signed, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def profile(service: Service, token: str) -> dict[str, str | None]:
    return dict(service.get("/v1/me", token).json())


def test_a_signed_profile_passes_and_is_kept(service: Service, sandbox: Sandbox) -> None:
    user = f"u{secrets.token_hex(4)}"
    token = service.login(user)
    signed = sandbox.user_info(user, nickName="小明 🎉", avatarUrl="https://thirdwx.qlogo.cn/1")
    assert post(service, token, signed) == {"pass": True}
    assert profile(service, token) == {"nickname": "小明 🎉", "avatar": "https://thirdwx.qlogo.cn/1"}


def test_the_profile_of_another_person_does_not_pass(service: Service, sandbox: Sandbox) -> None:
    """Signed with this person's key, but saying another openid: what is inside has to fit too."""
    mallory, victim = f"m{secrets.token_hex(4)}", f"v{secrets.token_hex(4)}"
    token = service.login(mallory)
    session_key = _session_key(sandbox, mallory)
    forged = signed_user_info(victim, session_key, {"nickName": "我"})
    assert post(service, token, forged) == {"pass": False, "code": "userinfo-invalid"}
    assert profile(service, token)["nickname"] is None


def _session_key(sandbox: Sandbox, user: str) -> str:
    answer = requests.get(f"{sandbox.url}/sandbox/session_key", {"user": user}, timeout=PATIENCE_S)
    return str(answer.json()["session_key"])


@pytest.mark.parametrize("field", ["rawData", "signature"])
def test_a_changed_signature_or_raw_data_does_not_pass(service: Service, sandbox: Sandbox, field: str) -> None:
    user = f"u{secrets.token_hex(4)}"
    token = service.login(user)
    signed = sandbox.user_info(user, nickName="Band")
    signed[field] = signed[field].replace("a", "b") + "0"
    assert post(service, token, signed) == {"pass": False, "code": "session-key-stale"}


@pytest.mark.parametrize("field", ["encryptedData", "iv"])
def test_data_that_does_not_decrypt_does_not_pass(service: Service, sandbox: Sandbox, field: str) -> None:
    user = f"u{secrets.token_hex(4)}"
    token = service.login(user)
    signed = sandbox.user_info(user, nickName="Band")
    signed[field] = signed[field][4:]
    assert post(service, token, signed) == {"pass": False, "code": "userinfo-invalid"}


def test_data_of_the_session_key_before_the_last_login_still_passes(service: Service, sandbox: Sandbox) -> None:
    user = f"u{secrets.token_hex(4)}"
    token = service.login(user)
    signed = sandbox.user_info(user, nickName="Early")
    service.login(user)
    assert post(service, token, signed) == {"pass": True}
    service.login(user)
    assert post(service, token, signed) == {"pass": False, "code": "session-key-stale"}, "two logins ago"


def test_an_anonymous_profile_never_replaces_a_chosen_name(service: Service, sandbox: Sandbox) -> None:
    user = f"u{secrets.token_hex(4)}"
    token = service.login(user)
    assert post(service, token, sandbox.user_info(user, nickName="小明", avatarUrl="https://a/1"))["pass"]
    assert post(service, token, sandbox.user_info(user, nickName="微信用户", avatarUrl="https://grey"))["pass"]
    assert profile(service, token) == {"nickname": "小明", "avatar": "https://a/1"}


def test_the_raw_data_is_taken_byte_for_byte(service: Service, sandbox: Sandbox) -> None:
    """Whoever parses it and writes it again loses the spaces that were signed."""
    user = f"u{secrets.token_hex(4)}"
    token = service.login(user)
    session_key = _session_key(sandbox, user)
    signed = signed_user_info(user, session_key, {"nickName": "a"})
    signed["rawData"] = '{ "nickName" : "a" }'
    signed["signature"] = sha1((signed["rawData"] + session_key).encode()).hexdigest()
    assert post(service, token, signed) == {"pass": True}


def test_nothing_of_a_profile_is_in_the_ledger(new_service: Callable[..., Service], sandbox: Sandbox) -> None:
    service = new_service()
    token = service.login("alice")
    name = f"秘密{secrets.token_hex(8)}"
    assert post(service, token, sandbox.user_info("alice", nickName=name))["pass"]
    service.stop()
    everything = b"".join(path.read_bytes() for path in service.data.glob("ledger.db*"))
    assert name.encode() not in everything
    assert service.openid_of("alice").encode() in everything


def test_the_session_key_is_encrypted_at_rest(new_service: Callable[..., Service], sandbox: Sandbox) -> None:
    service = new_service()
    token = service.login("alice")
    session_key = _session_key(sandbox, "alice")
    service.stop()
    stored = b"".join(path.read_bytes() for path in service.data.iterdir() if path.is_file())
    assert session_key.encode() not in stored
    assert base64.b64decode(session_key) not in stored
    assert token.encode() not in stored, "a token is stored as its hash only"
