"""Who comes in: tokens, the names this server may be called by, and a line a request for whoever watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuneforge_registry_server.addresses import UPLOADS, VALIDATE
from tuneforge_registry_server.errors import HubError
from tuneforge_registry_server.tokens import Right, Tokens

Say = Callable[[str], None]
CREDENTIALS = "Invalid credentials in Authorization header"
"""The words by which huggingface_hub knows that a token is wrong, and not that a repository is missing."""


class Door:
    """Lets requests in, with the right they have under `scope["right"]`, and tells how they were answered.

    A page of another site that is open in a browser can send requests here, and one whose own name was made to point
    to this machine can read the answers, both without a token where none is asked for. So the name under which the
    server is called must be one of its own (unless tokens are asked for: such a page has none), and what a browser
    sends for a page is refused if it would change something. What the page of another site loads from here is
    refused too, as whether that works would tell it which names there are; a link may be followed.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens | None, read_only: bool, hosts: Sequence[str], say: Say) -> None:
        self._app = app
        self._tokens = tokens
        self._most: Right = "read" if read_only else "write"
        self._hosts = frozenset(hosts)
        self._say = say

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began = time.monotonic()
        status, sent = 499, 0  # what a client that hangs up before the answer is told of

        async def counted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        who = "-"
        try:
            try:
                right, who = self._let_in(scope)
            except HubError as error:
                await error.response()(scope, receive, counted)
                return
            await self._app({**scope, "right": right, "who": who}, receive, counted)
        finally:
            with suppress(Exception):  # the terminal may be gone; requests go on
                self._tell(scope, who, status, sent, time.monotonic() - began)

    def _let_in(self, scope: Scope) -> tuple[Right, str]:
        headers = Headers(scope=scope)
        if self._tokens is None:
            host = headers.get("host", "").lower()
            name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
            if name not in self._hosts:
                raise HubError(421, "this server is not called so: use the address that it tells when it starts")
            right, who = self._most, "-"
        elif scope["path"].startswith(UPLOADS):
            right, who = self._most, "-"  # given to who may write; what is sent there has its signature checked
        elif scope["path"] == VALIDATE and "authorization" not in headers:
            right, who = "read", "-"  # what is sent there is looked at and forgotten
        else:
            known = self._tokens.bearer(headers.get("authorization", ""))
            if known is None:
                given = "authorization" in headers
                raise HubError(401, CREDENTIALS if given else "this registry asks for a token: `hf auth login`")
            right, who = ("read" if self._most == "read" else known.right), known.name
        foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        if scope["method"] not in ("GET", "HEAD") and ("origin" in headers or foreign):
            raise HubError(403, "a page in a browser may not change anything here")
        if foreign and headers.get("sec-fetch-mode") != "navigate":
            raise HubError(403, "a page of another site may not ask for anything here")
        return right, who

    def _tell(self, scope: Scope, who: str, status: int, sent: int, seconds: float) -> None:
        client = scope["client"][0] if scope.get("client") else "-"
        line = f"{time.strftime('%H:%M:%S')} {client} {who} {scope['method']} {scope['path']} {status}"
        line += f" {sent} B {seconds:.3f} s"
        # What a client writes must not steer the terminal.
        self._say("".join(sign if sign.isprintable() else "?" for sign in line)[:500])
