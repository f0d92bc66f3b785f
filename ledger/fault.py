"""What an audit finds: one thing that is wrong, by the name of what was done to it.

| `what` | what it says |
|---|---|
| `changed` | the columns of an event are not those that its hash was made of |
| `removed` | an event of an account, or what stood at a position, is not there |
| `added` | an event too many: a version a second time, or a position before the first |
| `reordered` | the events of an account do not stand in their order, or behind the seal that covers them |
| `data` | the data of an event are not what this program would have written |
| `time` | an event is older than the one before it |
| `lapse` | what was due to lapse did not, or something lapsed that was not due |
| `impossible` | an event does what the state before it, or the event that it corrects, does not allow |
| `credit` | the credit beside an event is not what the events come to |
| `invariant` | after an event the sums of the account do not agree |
| `account` | the account row is not what the account's events come to |
| `missing-account` | a sealed account has no event at all |
| `cut-tail` | the last sealed events of an account are not there |
| `rewritten-chain` | an account's chain is right in itself, and not the one that was sealed |
| `seal` | the seals, their notes or their sums do not agree with each other or with the log |
| `receipt` | an event that was acknowledged is not there, or is another one |
| `schema` | a table, trigger or index is not as this release makes it, or the ledger's own row is not |
| `file` | SQLite finds the file damaged, or an index is not that of its table |
"""

import msgspec


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong, `what` it is as in the table above, and `detail` in words.

    `openid` and `version` name the event, `position` its row. The version is 0 where it is the account as a
    whole, and the openid empty where the file itself is wrong, or SHA-256 of it in hex where nobody knows it.
    """

    openid: str
    version: int
    position: int
    what: str
    detail: str


def text_of(stored: object) -> str:
    """An openid as it can be printed, whatever was found in its place."""
    return stored.decode("utf-8", "backslashreplace") if isinstance(stored, bytes) else repr(stored)
