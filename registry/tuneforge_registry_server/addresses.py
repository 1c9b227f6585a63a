"""How addresses are taken apart: by what was sent, since a revision may hold a slash that is written %2F."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from tuneforge_registry_server.errors import HubError
from tuneforge_registry_server.repositories import Type

NONE = "_"
"""The namespace of names that have none, where the client cannot do without: no name of the registry begins so."""


VALIDATE = "/api/validate-yaml"
"""Where a card is looked at, whoever asks: huggingface_hub's `ModelCard.validate` shows no token."""

UPLOADS = "/-/uploads/"
"""Where files are sent: addresses that carry the right to do so themselves, as the client shows no token there."""


class _Id(Convertor[str]):
    """A repository's id, in one part or two; which it is follows from what comes after."""

    regex = "[^/]+(?:/[^/]+)?"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Types(_Id):
    regex = "models|datasets"


class _Datasets(_Id):
    regex = "datasets"


register_url_convertor("repository", _Id())
register_url_convertor("types", _Types())
register_url_convertor("datasets", _Datasets())


class AsSent:
    """Gives the routes within the path as it was sent, with its %-escapes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope.get("raw_path", b"").partition(b"?")[0].decode("latin-1") or scope["path"]
            query = scope["query_string"].decode("utf-8", "replace").encode()  # what is read as UTF-8 by others
            scope = {**scope, "path": path, "root_path": "", "query_string": query}
        await self._app(scope, receive, send)


def part(request: Request, name: str) -> str:
    """A part of the path, in plain text."""
    return plain(request.path_params[name])


def plain(text: str) -> str:
    try:
        found = unquote(text.encode("latin-1").decode("utf-8"), errors="strict")
    except UnicodeError:
        raise HubError(400, "the address is not UTF-8") from None
    if "\0" in found:
        raise HubError(400, "the address has a null byte")
    return found


def repository_of(request: Request) -> tuple[Type, str]:
    """The type and the name that an address means."""
    kind: Type = "dataset" if request.path_params.get("types") == "datasets" else "model"
    return kind, called(part(request, "id"))


def called(name: str) -> str:
    """The name that an id means: ids are in any case, and `_/orders` is `orders` for who must give two parts."""
    return name.lower().removeprefix(f"{NONE}/")


def flag(request: Request, name: str) -> bool:
    """Whether a query says yes to something."""
    return request.query_params.get(name, "").lower() in ("1", "true")


def strings(value: Any) -> list[str]:
    """A text, or the texts of a list."""
    found = value if isinstance(value, list) else [value]
    return [text for text in found if isinstance(text, str)]
