"""A witness over HTTP (C2SP tlog-witness): one prefix for submission and for monitoring.

    POST /add-checkpoint             ledger.witness.Witness.add_checkpoint
    GET  /<origin hash>/checkpoint   ledger.witness.Witness.checkpoint

A body is read for at most 30 seconds and one byte beyond the largest request. A witness that cannot
reach its state answers 503, and why is for its operator: `failed` is told. Tested in
tests/ledger/test_witness_client.py. It needs the extra `serve`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

from ledger.errors import NotServed, WitnessStateLost
from ledger.net.serving import EXTRA
from ledger.witness import MAX_BODY_BYTES, TEXT, Answer, Status, Witness

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

BODY_SECONDS = 30
"""Seconds that a request's body may take."""


def witness_app(
    witness: Witness, now: Callable[[], int], failed: Callable[[str], None]
) -> Starlette:
    """Return the application that answers for a witness.

    Args:
        witness: that answers.
        now: returns Unix seconds, UTC.
        failed: is told why the state could not be reached; called from any thread.

    Raises:
        NotServed: the extra is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import Response
        from starlette.routing import Route
    except ModuleNotFoundError as cause:
        raise NotServed(EXTRA) from cause

    async def answer(ask: Callable[[], Answer]) -> Response:
        try:
            given = await run_in_threadpool(ask)
        except WitnessStateLost as cause:
            failed(str(cause))
            given = Answer(Status.SERVICE_UNAVAILABLE, TEXT, b"the witness is out of order\n")
        return Response(given.body, given.status, {"Content-Type": given.content_type})

    async def add_checkpoint(request: Request) -> Response:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read(request)
        except TimeoutError:
            return Response(status_code=HTTPStatus.REQUEST_TIMEOUT)
        return await answer(lambda: witness.add_checkpoint(body, now()))

    async def checkpoint(request: Request) -> Response:
        return await answer(lambda: witness.checkpoint(request.path_params["origin_hash"]))

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/{origin_hash}/checkpoint", checkpoint, methods=["GET"]),
        ]
    )


async def _read(request: Request) -> bytes:
    """Return a body, or its first bytes when it has more than a request can have."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            break
    return bytes(body[: MAX_BODY_BYTES + 1])
