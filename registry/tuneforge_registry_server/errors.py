"""What a request is refused with, in the form that huggingface_hub's client reads."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response


class HubError(Exception):
    """A request that cannot be answered: the HTTP status, why, and the code by which the client names its error."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code

    def response(self) -> Response:
        # A header is one line of Latin-1; the client shows it, and the body's `error`.
        line = "".join(sign if " " <= sign <= "~" else "?" for sign in self.message)[:1000]
        headers = {"X-Error-Message": line}
        if self.code is not None:
            headers["X-Error-Code"] = self.code
        return JSONResponse({"error": self.message}, self.status, headers)


def no_repository(kind: str, name: str) -> HubError:
    return HubError(404, f"no {kind} repository is named {name!r} here", "RepoNotFound")


def no_revision(name: str, revision: str) -> HubError:
    return HubError(404, f"{name} has no revision {revision!r}", "RevisionNotFound")


def no_entry(name: str, path: str) -> HubError:
    return HubError(404, f"{name} has no {path!r} in this revision", "EntryNotFound")


def bad(problem: str) -> HubError:
    return HubError(400, problem)
