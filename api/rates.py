"""How often somebody may ask. Counted by the `limits` library in fixed windows, in each worker for itself."""

import ipaddress
import time
from typing import Final

import falcon.asgi
from limits import RateLimitItem
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from api.problems import Problem
from api.settings import Settings

_MAX_COUNTED: Final = 100_000
# Whoever has an IPv6 address has 2**64 of them.
_IPV6_PREFIX: Final = 64


class Windows(Storage):
    """Counts in this process's memory. The library's own memory storage starts a thread to forget what is
    over, a hundred times a second under load; here that happens when there is much to forget."""

    STORAGE_SCHEME = None

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, list[float]] = {}  # key -> [count, end of the window]

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        now = time.time()
        window = self._counts.get(key)
        if window is None or window[1] <= now:
            if len(self._counts) >= _MAX_COUNTED:
                self._forget(now)
            self._counts[key] = window = [0, now + expiry]
        window[0] += amount
        return int(window[0])

    def get(self, key: str) -> int:
        window = self._counts.get(key)
        return 0 if window is None or window[1] <= time.time() else int(window[0])

    def get_expiry(self, key: str) -> float:
        window = self._counts.get(key)
        return time.time() if window is None else window[1]

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        self._counts.clear()
        return 0

    def clear(self, key: str) -> None:
        self._counts.pop(key, None)

    def _forget(self, now: float) -> None:
        """Drop the windows that are over; where hardly any is, all of them: memory has an end."""
        self._counts = {key: window for key, window in self._counts.items() if window[1] > now}
        if len(self._counts) > _MAX_COUNTED // 2:
            self._counts.clear()


class Rates:
    """What the settings allow to one API key, one token, and one address that shows neither."""

    def __init__(self, settings: Settings) -> None:
        self._limiter = FixedWindowRateLimiter(Windows())
        self._settings = settings

    def count_key(self, key_id: str) -> None:
        self._count(self._settings.rate_key, "key", key_id)

    def count_token(self, token_hash: bytes) -> None:
        self._count(self._settings.rate_token, "token", token_hash.hex())

    def count_address(self, req: falcon.asgi.Request) -> None:
        self._count(self._settings.rate_login, "address", address_of(req))

    def _count(self, allowed: RateLimitItem | None, kind: str, who: str) -> None:
        """Count one more request; raises a 429 Problem when that is one too many."""
        if allowed is None or self._limiter.hit(allowed, kind, who):
            return
        ends = self._limiter.get_window_stats(allowed, kind, who).reset_time
        wait_s = max(1, round(ends - time.time() + 0.5))
        problem = Problem(
            429, "rate-limited", f"More than {allowed} from this {kind}; wait.", retry_after_s=wait_s
        )
        problem.headers = {"Retry-After": str(wait_s)}
        raise problem


def address_of(req: falcon.asgi.Request) -> str:
    """Whose request it is: the peer, or what a proxy on this host (and no other) says its client is.

    A proxy appends the address that it saw to X-Forwarded-For, so only the last one in there is its own.
    """
    client = req.scope.get("client")
    peer = client[0] if client else ""
    try:
        if not peer or _address(peer).is_loopback:
            peer = (req.get_header("X-Forwarded-For") or "").rpartition(",")[2].strip() or peer
        address = _address(peer)
    except ValueError:
        return "unknown"
    if address.version == 6:
        return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that `text` is; where a socket for both calls an IPv4 peer ::ffff:192.0.2.1, that of IPv4."""
    address = ipaddress.ip_address(text)
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address
