"""How often somebody may ask: counted in fixed windows, in each worker for itself."""

import ipaddress
import time
from typing import Final

import falcon.asgi
from limits import RateLimitItem

from api.problems import Problem
from api.settings import Settings

_MAX_COUNTED: Final = 100_000
# Whoever has an IPv6 address has 2**64 of them.
_IPV6_PREFIX: Final = 64


class Rates:
    """What the settings allow to one API key, one token, and one address that shows neither."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._windows: dict[tuple[str, object], list[float]] = {}  # who -> [count, end of the window]

    def count_key(self, key_id: str) -> None:
        self._count(self._settings.rate_key, "key", key_id)

    def count_token(self, token_hash: bytes) -> None:
        self._count(self._settings.rate_token, "token", token_hash)

    def count_address(self, req: falcon.asgi.Request) -> None:
        self._count(self._settings.rate_login, "address", address_of(req))

    def _count(self, allowed: RateLimitItem | None, kind: str, who: object) -> None:
        """Count one more request; raises a 429 Problem when that is one too many."""
        if allowed is None:
            return
        now = time.time()
        window = self._windows.get((kind, who))
        if window is None or window[1] <= now:
            if len(self._windows) >= _MAX_COUNTED:
                self._forget(now)
            self._windows[kind, who] = window = [0, now + allowed.get_expiry()]
        window[0] += 1
        if window[0] <= allowed.amount:
            return
        wait_s = max(1, round(window[1] - now + 0.5))
        problem = Problem(
            429, "rate-limited", f"More than {allowed} from this {kind}; wait.", retry_after_s=wait_s
        )
        problem.headers = {"Retry-After": str(wait_s)}
        raise problem

    def _forget(self, now: float) -> None:
        """Drop the windows that are over; where hardly any is, all of them: memory has an end."""
        self._windows = {who: window for who, window in self._windows.items() if window[1] > now}
        if len(self._windows) > _MAX_COUNTED // 2:
            self._windows.clear()


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
