"""Request bodies: read up to a limit, decoded straight into the struct that says what is allowed."""

import asyncio
from typing import Final, TypeVar

import falcon.asgi
import msgspec

from api.problems import Problem

MAX_BODY_BYTES: Final = 64 * 1024
# How much of a body that is refused is read all the same: a client that is still sending when the connection
# closes sees a reset, and not the answer that says why.
_MAX_DISCARDED_BYTES: Final = 2**20

# For the whole body: gunicorn's own timer starts anew with every byte.
_BODY_DEADLINE_S: Final = 20.0

BodyT = TypeVar("BodyT")


async def read_json(req: falcon.asgi.Request, decoder: msgspec.json.Decoder[BodyT]) -> BodyT:
    """The body as `decoder`'s type, or a Problem: 413 above 64 KiB, 415 not JSON, 400 malformed, 422 wrong."""
    media_type = (req.content_type or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(415, "not-json", "Send the body as JSON, with Content-Type: application/json.")
    body = await _read(req)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid-body", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "malformed-json", str(error)) from None
    except RecursionError:
        raise Problem(400, "malformed-json", "JSON is nested too deeply") from None


async def _read(req: falcon.asgi.Request) -> bytes:
    # Refused by its announced length before a byte is kept, and counted while reading where it has none.
    too_large = (req.content_length or 0) > MAX_BODY_BYTES
    body, size = b"", 0
    try:
        async with asyncio.timeout(_BODY_DEADLINE_S):
            async for piece in req.stream:
                size += len(piece)
                too_large = too_large or size > MAX_BODY_BYTES
                if size > _MAX_DISCARDED_BYTES:
                    break
                if not too_large:
                    body += piece
    except TimeoutError:
        raise Problem(408, "body-timeout", "The body did not come in time.") from None
    if too_large:
        raise Problem(413, "body-too-large", f"A body may have {MAX_BODY_BYTES} bytes.")
    return body
