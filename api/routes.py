"""The routes of `/v1`: each path, and the resource whose responders answer there."""

from typing import Final

from api import accounts, me, seals, sessions
from api.bulk import BulkGrants
from api.operation import Resource

ROUTES: Final[dict[str, type[Resource]]] = {
    "/v1/sessions": sessions.Sessions,
    "/v1/sessions/current": sessions.CurrentSession,
    "/v1/me": me.Me,
    "/v1/me/profile": me.MyProfile,
    "/v1/me/credit": me.MyCredit,
    "/v1/me/events": me.MyEvents,
    "/v1/me/checkin": me.MyCheckin,
    "/v1/accounts/{openid}": accounts.AccountResource,
    "/v1/accounts/{openid}/events": accounts.AccountEvents,
    "/v1/accounts/{openid}/grants": accounts.Grants,
    "/v1/accounts/{openid}/spends": accounts.Spends,
    "/v1/accounts/{openid}/holds": accounts.Holds,
    "/v1/accounts/{openid}/holds/{hold}/capture": accounts.Capture,
    "/v1/accounts/{openid}/holds/{hold}/release": accounts.Release,
    "/v1/accounts/{openid}/reversals": accounts.Reversals,
    "/v1/accounts/{openid}/revocations": accounts.Revocations,
    "/v1/accounts/{openid}/freeze": accounts.Freeze,
    "/v1/accounts/{openid}/unfreeze": accounts.Unfreeze,
    "/v1/grants": BulkGrants,
    "/v1/me/proof": seals.MyProof,
    "/v1/accounts/{openid}/proof": seals.AccountProof,
    "/v1/seals": seals.Seals,
    "/v1/seals/{seal}": seals.SealResource,
    "/v1/seals/{seal}/consistency/{later}": seals.Consistency,
}
