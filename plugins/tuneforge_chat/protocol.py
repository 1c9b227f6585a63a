"""OpenAI's protocol: what a request may say, and the form of answers and errors.

Source: https://platform.openai.com/docs/api-reference, chat completions and completions. What would change the answer
and cannot be done is refused, never passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tuneforge import Manner

# What does not change the answer; parallel_tool_calls, as no tools are taken.
_ABOUT = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls")
_Neutral = Mapping[str, tuple[Any, ...]]
"""Options that are not offered, each with the values by which it changes nothing; null is one of every option."""
_COMMON: _Neutral = {"frequency_penalty": (0,), "presence_penalty": (0,), "logit_bias": ({},)}
_CHAT: _Neutral = {
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logprobs": (False,),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
}
_TEXT: _Neutral = {"best_of": (1,), "echo": (False,), "suffix": ("",)}


class RequestError(Exception):
    """A request that cannot be answered, and the HTTP status that says so."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        self.status = status
        kind = "server_error" if status >= 500 else "invalid_request_error"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        super().__init__(message)


class _Part(BaseModel):
    """A part of a message: texts alone, as no picture or sound is understood."""

    type: Literal["text"]
    text: str


class _Said(BaseModel):
    model_config = ConfigDict(extra="ignore")

    role: str
    content: str | list[_Part]
    tool_calls: None = None
    tool_call_id: None = None
    function_call: None = None


class _Streaming(BaseModel):
    include_usage: bool = False


class _Request(BaseModel):
    """What both kinds of request say."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    neutral: ClassVar[_Neutral] = _COMMON

    model: str | None = None
    stream: bool | None = False
    stream_options: _Streaming | None = None
    temperature: float | None = Field(1.0, ge=0, le=2)
    top_p: float | None = Field(1.0, gt=0, le=1)
    seed: int | None = None
    max_tokens: int | None = Field(None, ge=1)
    stop: str | list[str] | None = None
    n: Literal[1] | None = 1

    @model_validator(mode="after")
    def _nothing_passed_over(self) -> _Request:
        for name, value in (self.model_extra or {}).items():
            if name not in _ABOUT and value is not None and value not in self.neutral.get(name, ()):
                raise ValueError(f"{name} is not offered by this server")
        if not all(self.until):
            raise ValueError("stop has an empty string")
        return self

    @property
    def until(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def most(self) -> int | None:
        """The tokens that the answer may have; None if the context alone bounds it."""
        return self.max_tokens

    @property
    def usage_told(self) -> bool:
        """Whether the last event of a stream tells the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def manner(self, most: int, drawn: int) -> Manner:
        """How the answer is to be written; `drawn` is the seed where none was given."""
        temperature = 1.0 if self.temperature is None else self.temperature
        seed = (drawn if self.seed is None else self.seed) % 2**32
        return Manner(most, temperature, self.top_p or 1.0, seed)


class ChatRequest(_Request):
    """POST /v1/chat/completions."""

    neutral = {**_COMMON, **_CHAT}

    messages: list[_Said] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)

    @property
    def most(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def conversation(self) -> list[dict[str, str]]:
        """The messages, each with its parts as one text."""
        return [
            {
                "role": said.role,
                "content": said.content
                if isinstance(said.content, str)
                else "".join(part.text for part in said.content),
            }
            for said in self.messages
        ]


class TextRequest(_Request):
    """POST /v1/completions: a text to go on with."""

    neutral = {**_COMMON, **_TEXT}

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=1)]
    max_tokens: int | None = Field(16, ge=1)

    @property
    def text(self) -> str:
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]


def told(error: ValidationError) -> RequestError:
    """What is wrong with a request; of a value that may be of several types, with the one that it comes closest to."""
    worst = max(error.errors(), key=lambda each: len(each["loc"]))
    # The names of those types are among the places.
    param = (
        ".".join(str(part) for part in worst["loc"] if isinstance(part, int) or (part.isidentifier() and part != "str"))
        or None
    )
    message = str(worst["msg"]).removeprefix("Value error, ")
    return RequestError(400, f"{param}: {message}" if param else message, param)


class Form:
    """The form of one answer, in whole or in pieces."""

    def __init__(self, chat: bool, name: str, identity: str, created: int) -> None:
        self._chat = chat
        self._object = "chat.completion" if chat else "text_completion"
        self._common = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{identity}",
            "created": created,
            "model": name,
        }

    def whole(self, text: str, finish: str, usage: Mapping[str, int]) -> dict[str, Any]:
        said = {"message": {"role": "assistant", "content": text, "refusal": None}} if self._chat else {"text": text}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": finish}
        return {**self._common, "object": self._object, "choices": [choice], "usage": dict(usage)}

    def piece(self, text: str | None, finish: str | None = None, *, first: bool = False) -> dict[str, Any]:
        """A part of the answer; with `finish`, that it has ended."""
        delta = ({"role": "assistant"} if first else {}) | ({"content": text} if text is not None else {})
        said: dict[str, Any] = {"delta": delta} if self._chat else {"text": text or ""}
        return self._event([{"index": 0, **said, "logprobs": None, "finish_reason": finish}])

    def usage(self, usage: Mapping[str, int]) -> dict[str, Any]:
        """The last part, for clients that want it."""
        return self._event([]) | {"usage": dict(usage)}

    def _event(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._common, "object": f"{self._object}.chunk" if self._chat else self._object, "choices": choices}


def usage(prompt: int, answer: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
