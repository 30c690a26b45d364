"""Addresses of services, as people give them, and the connections to them."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx

from service.client.errors import AddressInvalid, HeaderInvalid, Untrusted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["cause_of", "check_address", "connections_to", "shown", "untrusted"]

_Http = TypeVar("_Http", httpx.Client, httpx.AsyncClient)
_Error = TypeVar("_Error", bound=BaseException)

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"([!-~]([\t -~]*[!-~])?)?")


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
        raise AddressInvalid(f"expected the address of a service, such as http://127.0.0.1:8000, got {shown(url)!r}")
    return address


def shown(url: str) -> str:
    """An address as messages have it: without the user and the password that may be in it.

    >>> shown("http://me:open sesame@robots.example/path"), shown("http://robots.example/@")
    ('http://robots.example/path', 'http://robots.example/@')
    """
    scheme, slashes, rest = url.rpartition("//")
    authority, slash, path = rest.partition("/")
    return scheme + slashes + authority.rpartition("@")[2] + slash + path


def connections_to(address: str, kind: Callable[..., _Http], **options: Any) -> _Http:
    """A client of httpx for an address; no connection is opened yet.

    Certificates are trusted that this machine trusts, or those in SSL_CERT_FILE, as websockets has it; httpx by itself
    would go by a list of its own.

    Raises:
        AddressInvalid: The environment names a proxy that cannot be used.
        HeaderInvalid: A header that cannot be sent.
    """
    headers = options.pop("headers", None) or {}
    _check_headers(headers)
    if options.get("transport") is None:
        options["verify"] = ssl.create_default_context()
    try:
        return kind(base_url=address, headers=headers, **options)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise AddressInvalid(
            f"expected a way to {shown(address)} through the proxy that ALL_PROXY, HTTP_PROXY or HTTPS_PROXY names, "
            f"got: {str(error).rstrip('.')}; unset it, name the host in NO_PROXY, or, for SOCKS, "
            "pip install 'httpx[socks]'"
        ) from error


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise HeaderInvalid(f"expected names of headers as HTTP has them, letters, digits and -, got {name!r}")
        if not _VALUE.fullmatch(value):  # it may be a secret, so it is not shown
            raise HeaderInvalid(
                f"expected {name} of printable ASCII without blanks or new lines around it, as HTTP's headers are, got "
                "other characters"
            )


def untrusted(address: str, error: BaseException) -> Untrusted | None:
    """What it means that nobody could be connected to, if it is for the certificate that was shown; else None."""
    fault = cause_of(error, ssl.SSLCertVerificationError)
    if fault is None:
        return None
    return Untrusted(
        f"expected a certificate of {shown(address)} that is trusted here, got another ({fault.verify_message}): if an "
        "authority of your own has signed it, name the file of that authority's certificate in SSL_CERT_FILE"
    )


def cause_of(error: BaseException | None, kind: type[_Error]) -> _Error | None:
    """The error of a kind that another one came of; None if there is none."""
    while error is not None:
        if isinstance(error, kind):
            return error
        error = error.__cause__ or error.__context__
    return None
