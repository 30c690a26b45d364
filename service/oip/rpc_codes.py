"""Errors over gRPC: one table of codes, and what goes with them."""

from __future__ import annotations

from typing import Final

import grpc

from service import errors

__all__ = ["code_of", "trailers"]

_CODES: Final[dict[type[errors.RobomaskError], grpc.StatusCode]] = {
    errors.BadRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,  # what gRPC itself says of a message beyond its bound
    errors.ModelUnknown: grpc.StatusCode.NOT_FOUND,
    errors.ModelFixed: grpc.StatusCode.FAILED_PRECONDITION,
    errors.AdminClosed: grpc.StatusCode.PERMISSION_DENIED,
    errors.AdminTokenWrong: grpc.StatusCode.UNAUTHENTICATED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.Stale: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Superseded: grpc.StatusCode.ABORTED,
    errors.RobomaskError: grpc.StatusCode.INTERNAL,
}


def code_of(error: errors.RobomaskError) -> grpc.StatusCode:
    """The gRPC code of an error: that of the nearest class in the table."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def trailers(error: errors.RobomaskError, request_id: str) -> tuple[tuple[str, str], ...]:
    """Metadata that ends a call which failed: which request it was, what is wrong, and when to come again.

    `grpc-retry-pushback-ms` is what clients with a retry policy wait for.

    Source: gRPC proposal A6, "Client retries", server pushback.
    """
    told = (("x-request-id", request_id), ("robomask-error", error.code))
    if not isinstance(error, errors.Unavailable):
        return told
    seconds = error.retry_after_s
    return (*told, ("retry-after", str(seconds)), ("grpc-retry-pushback-ms", str(seconds * 1000)))
