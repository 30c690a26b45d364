"""Addresses of services, as people give them, and the connections to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import httpx

from service.client.errors import AddressInvalid

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_address", "connections_to"]

_Http = TypeVar("_Http", httpx.Client, httpx.AsyncClient)


def check_address(url: str) -> str:
    r"""The address, if it can be one, without what surrounds it when it is read from a file.

    >>> check_address("http://127.0.0.1:8000\n")
    'http://127.0.0.1:8000'

    Raises:
        AddressInvalid: It cannot, whoever answers.
    """
    address = url.strip()
    try:
        parts = urlsplit(address)
        is_one = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        httpx.URL(address).raw_host.decode("ascii").encode("idna")  # as it is going to be looked up
    except (ValueError, httpx.InvalidURL):  # a port that is none, or a name
        is_one = False
    if not is_one:
        raise AddressInvalid(f"expected the address of a service, such as http://127.0.0.1:8000, got {url!r}")
    return address


def connections_to(address: str, kind: Callable[..., _Http], **options: Any) -> _Http:
    """A client of httpx for an address; no connection is opened yet.

    Raises:
        AddressInvalid: The environment names a proxy that cannot be used.
    """
    headers = httpx.Headers(options.pop("headers", None))
    try:
        return kind(base_url=address, headers=headers, **options)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise AddressInvalid(
            f"expected a way to {address} through the proxy that ALL_PROXY, HTTP_PROXY or HTTPS_PROXY names, got: "
            f"{str(error).rstrip('.')}; unset it, name the host in NO_PROXY, or, for SOCKS, pip install 'httpx[socks]'"
        ) from error
