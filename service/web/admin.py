"""Who may change what is in service: whoever has the admin token, and nobody where none is set."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from service.errors import AdminClosed, AdminTokenWrong

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SecretStr

__all__ = ["AdminGate"]

_SCHEME: Final = "bearer "


class AdminGate:
    """Lets requests through that bring the admin token.

    Args:
        token: The token; None closes the gate.
    """

    def __init__(self, token: SecretStr | None) -> None:
        self._token = None if token is None else token.get_secret_value().strip().encode()

    def check(self, headers: Mapping[str, str]) -> None:
        """Let a request through by its headers, or its gRPC metadata, whose names are in lower case.

        Raises:
            AdminClosed: No token is set.
            AdminTokenWrong: The token is missing or another.
        """
        if self._token is None:
            raise AdminClosed(
                "expected an admin token to be set in this service, it has none, so its models cannot be changed from "
                "outside; start it with ROBOMASK_ADMIN_TOKEN set, then send it as `Authorization: Bearer <token>`"
            )
        brought = headers.get("authorization", "")
        token = brought[len(_SCHEME) :].strip() if brought[: len(_SCHEME)].lower() == _SCHEME else ""
        # What HTTP headers hold beyond ASCII is decoded as Latin-1; this gives the bytes back that were sent.
        if not hmac.compare_digest(token.encode("latin-1", "replace"), self._token):
            raise AdminTokenWrong(
                f"expected the admin token as `Authorization: Bearer <token>`, got {'another' if token else 'none'}; "
                "it is what ROBOMASK_ADMIN_TOKEN was when the service was started"
            )
