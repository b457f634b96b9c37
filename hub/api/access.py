"""Who may use the API: whoever sends the token of the hub's file (RFC 6750, section 2.1).

Models and their files stay open: devices fetch them by hashes that only the fleet's topics tell.
"""

import secrets

from starlette.types import ASGIApp, Receive, Scope, Send

from hub.api.answers import document
from hub.api.control import Failure

#: Paths, and beginnings of paths, that need no token.
OPEN = ("/healthz", "/v1/models/", "/v1/blobs/")
_SCHEME = b"bearer "
#: Stands in the state of a request that carried the token.
CARRIED = "carried_token"


class TokenRequired:
    """Lets requests through that carry the token.

    Args:
        app: what is guarded.
        token: the secret.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection's request."""
        carries = scope["type"] == "http" and self._carries(scope)
        if carries:
            scope.setdefault("state", {})[CARRIED] = True
        if scope["type"] != "http" or carries or self._open(scope["path"]):
            await self._app(scope, receive, send)
            return
        failure = Failure(
            error="the hub wants its token. Set LORIKEET_HUB_TOKEN, or LORIKEET_HUB_TOKEN_FILE to "
            "a file that holds it."
        )
        answer = document(failure, 401)
        answer.headers["www-authenticate"] = "Bearer"
        await answer(scope, receive, send)

    @staticmethod
    def _open(path: str) -> bool:
        return any(path.startswith(one) if one.endswith("/") else path == one for one in OPEN)

    def _carries(self, scope: Scope) -> bool:
        for name, value in scope["headers"]:
            if name == b"authorization" and value[: len(_SCHEME)].lower() == _SCHEME:
                return secrets.compare_digest(value[len(_SCHEME) :].strip(), self._token)
        return False
