"""Addresses of services, as people give them."""

from __future__ import annotations

from urllib.parse import urlsplit

from service.client.errors import AddressInvalid

__all__ = ["check_address"]


def check_address(url: str) -> str:
    """The address, if it can be one.

    >>> check_address("http://127.0.0.1:8000")
    'http://127.0.0.1:8000'

    Raises:
        AddressInvalid: It cannot, whoever answers.
    """
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        is_one = False
    if not is_one:
        raise AddressInvalid(f"expected the address of a service, such as http://127.0.0.1:8000, got {url!r}")
    return url
