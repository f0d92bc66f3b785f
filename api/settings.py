"""The settings: the only place that reads the environment."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from ledger.events import MAX_CREDIT

if TYPE_CHECKING:  # it brings asyncio, and every command of credit-ledger asks this module where the data is
    from limits import RateLimitItem

_CHECKOUT: Final = Path(__file__).resolve().parent.parent
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class SettingError(Exception):
    """A setting is missing or wrong; the message names the variable and says what it takes."""


class CheckinRules(msgspec.Struct, frozen=True):
    """What a check-in earns: the n-th of `rewards` on the n-th day in a row, the last one from there on.

    `name` is recorded with each check-in, so that a later reader knows which table it was.
    """

    name: str
    rewards: tuple[int, ...]


class Settings(msgspec.Struct, frozen=True):
    """What the service was told. `secret` is the AppSecret: never logged, never shown."""

    bind: str
    data: Path
    workers: int
    signup_grant: int
    appid: str
    secret: str
    wechat_api: str
    checkin: CheckinRules
    rate_key: "RateLimitItem | None"
    rate_token: "RateLimitItem | None"
    rate_login: "RateLimitItem | None"

    def __repr__(self) -> str:
        return f"Settings(bind={self.bind!r}, data={self.data!s}, appid={self.appid!r}, secret=...)"

    @property
    def ledger_path(self) -> Path:
        return ledger_path(self.data)

    @property
    def access_path(self) -> Path:
        return access_path(self.data)

    @property
    def seals_path(self) -> Path:
        return seals_path(self.data)

    @property
    def secret_key_path(self) -> Path:
        return self.data / "secret.key"

    @property
    def signing_key_path(self) -> Path:
        return signing_key_path(self.data)


def ledger_path(data: Path) -> Path:
    return data / "ledger.db"


def access_path(data: Path) -> Path:
    return data / "access.db"


def seals_path(data: Path) -> Path:
    return data / "seals.db"


def signing_key_path(data: Path) -> Path:
    return data / "signing.key"


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """All settings of the service, or a SettingError for the first one that is wrong."""
    return Settings(
        bind=_bind(environ),
        data=data_directory(environ),
        workers=_integer(environ, "CREDIT_WORKERS", len(os.sched_getaffinity(0)), 1, 256),
        signup_grant=_integer(environ, "CREDIT_SIGNUP_GRANT", 100, 0, MAX_CREDIT),
        appid=_required(environ, "WECHAT_APPID", "the mini-program's AppID, from mp.weixin.qq.com"),
        secret=_required(environ, "WECHAT_SECRET", "the mini-program's AppSecret, from mp.weixin.qq.com"),
        wechat_api=_wechat_api(environ),
        checkin=_checkin(environ),
        rate_key=_rate(environ, "CREDIT_RATE_KEY", "60000/minute"),
        rate_token=_rate(environ, "CREDIT_RATE_TOKEN", "1200/minute"),
        rate_login=_rate(environ, "CREDIT_RATE_LOGIN", "600/minute"),
    )


def data_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the ledger lies: CREDIT_DATA, or `data` in the checkout, or `data` here without one."""
    given = environ.get("CREDIT_DATA", "")
    if given:
        return Path(given).absolute()
    return (_CHECKOUT if (_CHECKOUT / "setup.cfg").exists() else Path.cwd()) / "data"


def _required(environ: Mapping[str, str], name: str, what: str) -> str:
    value = environ.get(name, "")
    if not re.fullmatch(r"[\x21-\x7e]+", value):
        state = "holds a space" if value else "is not set"
        raise SettingError(f"{name} {state}: it is {what} (scripts/serve without it runs the sandbox)")
    return value


def _integer(environ: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = environ.get(name, "")
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,16}", text, re.ASCII) or not least <= int(text) <= most:
        raise SettingError(f"{name} must be an integer from {least} to {most}, not {text!r}")
    return int(text)


def _checkin(environ: Mapping[str, str]) -> CheckinRules:
    text = environ.get("CREDIT_CHECKIN", "") or "1:5,5,5,5,5,5,20"
    found = re.fullmatch(r"([A-Za-z0-9._-]{1,32}):([0-9]{1,16}(?:,[0-9]{1,16}){0,365})", text, re.ASCII)
    rewards = tuple(int(reward) for reward in found[2].split(",")) if found else ()
    if found is None or not all(1 <= reward <= MAX_CREDIT for reward in rewards):
        raise SettingError(
            "CREDIT_CHECKIN must be a name for the table, a colon, and what each day of a streak earns, like "
            f"1:5,5,10; not {text!r}"
        )
    return CheckinRules(found[1], rewards)


def _rate(environ: Mapping[str, str], name: str, default: str) -> "RateLimitItem | None":
    text = environ.get(name, "") or default
    if text == "off":
        return None
    from limits import parse_many

    try:
        rates = parse_many(text)
    except ValueError:
        rates = []
    if len(rates) != 1 or not rates[0].amount:
        raise SettingError(f"{name} must be one rate like 600/minute, or off, not {text!r}")
    return rates[0]


def _bind(environ: Mapping[str, str]) -> str:
    bind = environ.get("CREDIT_BIND", "") or "127.0.0.1:3000"
    if not re.fullmatch(r"unix:\S+|([^\s:]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}", bind):
        raise SettingError(f"CREDIT_BIND must be HOST:PORT or unix:PATH, not {bind!r}")
    if not bind.startswith("unix:") and int(bind.rpartition(":")[2]) > 65535:
        raise SettingError(f"CREDIT_BIND must have a port up to 65535, not {bind!r}")
    return bind


def _wechat_api(environ: Mapping[str, str]) -> str:
    address = environ.get("WECHAT_API", "") or "https://api.weixin.qq.com"
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises where it is no port
    except ValueError as error:
        raise SettingError(f"WECHAT_API is not an address: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise SettingError(f"WECHAT_API must be an address like https://api.weixin.qq.com, not {address!r}")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise SettingError("WECHAT_API must be https: the AppSecret travels in every request to it")
    return address.rstrip("/")
