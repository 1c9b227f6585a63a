"""A small HTTP server that speaks OpenAI's protocol, for a model that transformers has loaded.

One request is answered at a time; the others wait in the order in which they came. A client that hangs up is answered
no further.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import time
import traceback
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvicorn
from anyio import CancelScope
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tuneforge import Artifact, StepError, Terms

from .engine import Loaded, Written
from .protocol import ChatRequest, Form, RequestError, TextRequest, told, usage

Kind = TypeVar("Kind", ChatRequest, TextRequest)

_LARGEST = 16 * 2**20
"""Bytes that a request may have."""
_LONGEST = 32768
"""Tokens of a conversation where neither the model nor the person bounds it."""


def serve(artifact: Artifact, terms: Terms) -> None:
    """Loads the artifact and serves it until the process is ended."""
    app = application(Loaded(artifact, terms.threads, terms.context), terms)
    uvicorn.run(app, host=terms.host, port=terms.port, log_level="error", access_log=False, lifespan="off")


def application(model: Loaded, terms: Terms) -> Starlette:
    """The server's routes; what it says of requests goes to standard output."""
    desk = _Desk(model, terms)
    # A page whose own name was made to point to this machine is of the same origin for a browser, and shows no key.
    hosts = ["*"] if terms.keys else ["localhost", "127.0.0.1", "[::1]", terms.host]
    return Starlette(
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)],
        routes=[
            Route("/health", desk.health),
            Route("/v1/models", desk.models),
            Route("/v1/models/{name:path}", desk.model),
            Route("/v1/chat/completions", desk.chat, methods=["POST"]),
            Route("/v1/completions", desk.complete, methods=["POST"]),
        ],
        exception_handlers={RequestError: _refuse, HTTPException: _refuse, Exception: _break},
    )


@dataclass
class _Answer:
    """An answer that is being written to one request."""

    pieces: Generator[str, None, Written]
    prompt: int
    form: Form
    usage_told: bool
    request: Request
    began: float = field(default_factory=time.monotonic)
    text: list[str] = field(default_factory=list)
    written: Written | None = None

    @property
    def usage(self) -> dict[str, int]:
        return usage(self.prompt, self.written.tokens if self.written else 0)

    @property
    def finish(self) -> str:
        return "stop" if self.written and self.written.ended else "length"

    async def follow(self) -> AsyncGenerator[str, None]:
        """The pieces as they are written; ends early, without `written`, when the client has hung up."""
        try:
            while not await self.request.is_disconnected():
                piece = await run_in_threadpool(self._next)
                if piece is None:
                    return
                self.text.append(piece)
                yield piece
        finally:
            with CancelScope(shield=True):
                await run_in_threadpool(self.pieces.close)

    def _next(self) -> str | None:
        try:
            return next(self.pieces)
        except StopIteration as end:
            self.written = end.value
            return None


class _Desk:
    """Where requests come in."""

    def __init__(self, model: Loaded, terms: Terms) -> None:
        self._model = model
        self._terms = terms
        self._turn = asyncio.Lock()  # whoever waits longest is next
        self._created = int(time.time())

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def models(self, request: Request) -> Response:
        self._let_in(request)
        return JSONResponse({"object": "list", "data": [self._described()]})

    async def model(self, request: Request) -> Response:
        self._let_in(request)
        self._known(request.path_params["name"])
        return JSONResponse(self._described())

    async def chat(self, request: Request) -> Response:
        asked = await self._asked(request, ChatRequest)
        try:
            prompt = await run_in_threadpool(self._model.prompt, asked.conversation)
        except StepError as error:
            raise RequestError(400, error.finding.problem, "messages") from error
        return await self._answer(request, asked, prompt, chat=True)

    async def complete(self, request: Request) -> Response:
        asked = await self._asked(request, TextRequest)
        prompt = await run_in_threadpool(self._model.tokenize, asked.text)
        if not prompt:
            raise RequestError(400, "the prompt has no tokens", "prompt")
        return await self._answer(request, asked, prompt, chat=False)

    def _described(self) -> dict[str, Any]:
        return {"id": self._terms.name, "object": "model", "created": self._created, "owned_by": "tuneforge"}

    def _let_in(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        shown = given.strip().encode() if scheme.lower() == "bearer" else b""
        fits = [hmac.compare_digest(shown, key.encode()) for key in self._terms.keys]
        if fits and not any(fits):
            raise RequestError(401, "the API key is not one of this server's", code="invalid_api_key")

    def _known(self, name: str | None) -> None:
        if name not in (None, self._terms.name):
            problem = f"the model {name!r} does not exist; this server has {self._terms.name!r}"
            raise RequestError(404, problem, "model", "model_not_found")

    async def _asked(self, request: Request, kind: type[Kind]) -> Kind:
        """The request, as far as it can be checked without the model."""
        self._let_in(request)
        # Of another type, a page of any site that is open in a browser could send it.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise RequestError(415, "the content type must be application/json")
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > _LARGEST:
                raise RequestError(413, f"the request is longer than {_LARGEST} bytes")
        try:
            asked = kind.model_validate_json(bytes(content))
        except ValidationError as error:
            raise told(error) from error
        self._known(asked.model)
        return asked

    async def _answer(
        self, request: Request, asked: ChatRequest | TextRequest, prompt: list[int], *, chat: bool
    ) -> Response:
        context = self._model.context or _LONGEST
        if len(prompt) >= context:
            problem = f"the prompt has {len(prompt)} tokens, which fills the context of {context} tokens"
            raise RequestError(400, problem, "messages" if chat else "prompt", "context_length_exceeded")
        most = min(asked.most or context, context - len(prompt))
        pieces = self._model.write(prompt, most, asked.manner(most, secrets.randbits(32)), asked.until)
        form = Form(chat, self._terms.name, secrets.token_hex(12), int(time.time()))
        answer = _Answer(pieces, len(prompt), form, asked.usage_told, request)
        if asked.stream:
            return StreamingResponse(self._events(answer), media_type="text/event-stream")
        async with self._turn, aclosing(answer.follow()) as written:
            async for _ in written:
                pass
        _tell(answer)
        if answer.written is None:
            return Response(status_code=499)  # nobody reads it
        return JSONResponse(form.whole("".join(answer.text), answer.finish, answer.usage))

    async def _events(self, answer: _Answer) -> AsyncGenerator[str, None]:
        try:
            async with self._turn, aclosing(answer.follow()) as written:
                yield _event(answer.form.piece("", first=True))
                async for piece in written:
                    yield _event(answer.form.piece(piece))
            if answer.written is not None:
                yield _event(answer.form.piece(None, answer.finish))
                if answer.usage_told:
                    yield _event(answer.form.usage(answer.usage))
                yield "data: [DONE]\n\n"
            _tell(answer)
        except Exception as error:  # the answer has begun: no status can tell it any more
            traceback.print_exc()
            problem = f"{type(error).__name__}: {error}"
            _say(answer.request, 500, problem)
            yield _event(RequestError(500, problem).body)
        except BaseException:  # the client has hung up
            _tell(answer)
            raise


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def _tell(answer: _Answer) -> None:
    """A line for whoever watches."""
    seconds = time.monotonic() - answer.began
    ended = answer.finish if answer.written else "the client hung up"
    tokens = f"{answer.prompt} + {answer.written.tokens if answer.written else len(answer.text)} tokens"
    _say(answer.request, 200, f"{tokens}, {ended}, {seconds:.2f} s")


def _say(request: Request, status: int, what: str) -> None:
    client = request.client.host if request.client else "-"
    line = f"{time.strftime('%H:%M:%S')} {client} {request.method} {request.url.path} {status}: {what}"
    # What a client writes must not steer the terminal.
    print("".join(sign if sign.isprintable() else "?" for sign in line), flush=True)


async def _refuse(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        error = RequestError(error.status_code, f"{error.detail}: {request.method} {request.url.path}")
    assert isinstance(error, RequestError)
    _say(request, error.status, str(error))
    return JSONResponse(error.body, error.status)


async def _break(request: Request, error: Exception) -> Response:
    problem = f"{type(error).__name__}: {error}"
    _say(request, 500, problem)
    # The server closes the connection after an error; who is not told would ask the next question on it.
    return JSONResponse(RequestError(500, problem).body, 500, {"Connection": "close"})
