"""Asking llama.cpp itself what it makes of a GGUF file."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from tuneforge import StepError
from tuneforge.artifacts import GGUF_TEMPLATE, read_gguf

from .dates import without_today
from .templates import thinking_unasked

FLOOR = -104.0
"""What a log probability is at least, as float32 has no smaller number; llama.cpp tells the lowest of all instead."""

# Loopback: a proxy of the person's has no business here.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class LlamaCppRefusedError(StepError):
    """What llama.cpp does not take: a conversation that the file's template cannot express."""


class LlamaCpp:
    """A GGUF file loaded in llama.cpp."""

    def __init__(self, address: str) -> None:
        self._address = address

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids; markers in the text are read as such. `special` adds the BOS and EOS that the model wants."""
        answer = self._post("/tokenize", {"content": text, "add_special": special, "parse_special": True})
        return list(answer["tokens"])

    def tokenize_all(self, texts: Sequence[str], between: int) -> list[list[int]]:
        """`tokenize` of many texts in few requests; `between` is the id of a token that is in none of them."""
        found: list[list[int]] = []
        for start in range(0, len(texts), 500):
            content = [part for text in texts[start : start + 500] for part in (text, between)]
            answer = self._post("/tokenize", {"content": content, "parse_special": True})
            found.append([])
            for token in answer["tokens"]:
                if token == between:
                    found.append([])
                else:
                    found[-1].append(token)
            found.pop()
        return found

    def transcript(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> str:
        """The text that the file's chat template makes of a whole conversation, its answers included.

        Raises LlamaCppRefusedError for one that the template refuses.
        """
        whole: dict[str, Any] = {"messages": list(messages), "add_generation_prompt": False}
        if tools:
            whole["tools"] = list(tools)
        return str(self._post("/apply-template", whole)["prompt"])

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The text that the file's chat template makes of a conversation, up to the answer."""
        return str(self._post("/apply-template", {"messages": list(messages)})["prompt"])

    def next_token(self, tokens: Sequence[int], top: int, answer: int) -> dict[int, float]:
        """The `top` likeliest tokens after a prompt, likeliest first, with their log probabilities.

        The server tells no probabilities for a token that is only a part of a character, so it is made to choose
        `answer`, a token of whole characters; that leaves the probabilities as they are.
        """
        body = {"prompt": list(tokens), "n_predict": 1, "n_probs": top, "logit_bias": [[answer, 1e6]]}
        (step,) = self._post("/completion", {**body, "temperature": 0})["completion_probabilities"]
        return _told(step)

    def log_probabilities(self, tokens: Sequence[int], size: int, whole: int) -> list[float]:
        """The log probability of every token of a vocabulary of that size to come next; `whole` as in `likelihood`."""
        told = self.next_token(tokens, size, whole)
        least = min(told.values())
        return [told.get(token, least) for token in range(size)]

    def likelihood(
        self, tokens: Sequence[int], follows: int | None, top: int, whole: int
    ) -> tuple[dict[int, float], float | None]:
        """The same as `next_token`, and the log probability of the token that `follows`, likely or not.

        `whole` is a token of whole characters. None where `follows` is none, is a part of a character and not among
        the likeliest: of such a one the server is silent.
        """
        if follows is not None:
            body = {"prompt": list(tokens), "n_predict": 1, "n_probs": top, "logit_bias": [[follows, 1e6]]}
            told = self._post("/completion", {**body, "temperature": 0}).get("completion_probabilities")
            if told and told[0]["id"] == follows:
                return _told(told[0]), max(told[0]["logprob"], FLOOR)
        likeliest = self.next_token(tokens, top, whole)
        return likeliest, likeliest.get(follows) if follows is not None else None

    def ends(self, tokens: Sequence[int], token: int) -> bool:
        """Whether llama.cpp ends an answer to a prompt at that token."""
        body = {"prompt": list(tokens), "n_predict": 2, "logit_bias": [[token, 1e6]], "temperature": 0}
        return bool(self._post("/completion", body)["stop_type"] == "eos")

    def answer(self, tokens: Sequence[int], most: int, **sampling: Any) -> Generator[str, None, bool]:
        """Yields what llama.cpp writes after a prompt, in pieces of whole characters, at most so many tokens.

        Returns whether a token that ends answers has ended it. When it is closed, llama.cpp writes no further.
        """
        body = {"prompt": list(tokens), "n_predict": most, "stream": True, **sampling}
        with self._asked("/completion", body) as response:
            for line in response:
                kind, _, data = line.decode().partition(":")
                if kind == "error":
                    raise StepError(f"llama.cpp fails on the GGUF file: {data.strip()}")
                if kind == "data":  # empty lines separate events, and others keep the connection alive
                    event = json.loads(data)
                    if event["content"]:
                        yield event["content"]
                    if event["stop"]:
                        return bool(event["stop_type"] == "eos")
        raise StepError("llama.cpp broke off in the middle of an answer")

    def trained_context(self) -> int:
        """The context that the model was made for, in tokens."""
        with self._asked("/v1/models") as response:
            (model,) = json.load(response)["data"]
        return int(model["meta"]["n_ctx_train"])

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        with self._asked(path, body) as response:
            return json.load(response)

    @contextmanager
    def _asked(self, path: str, body: Mapping[str, Any] | None = None) -> Iterator[HTTPResponse]:
        content = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self._address + path, content, {"Content-Type": "application/json"})
        try:
            with _OPENER.open(request, timeout=600) as response:
                yield response
        except urllib.error.HTTPError as error:
            kind = LlamaCppRefusedError if error.code == HTTPStatus.BAD_REQUEST else StepError
            raise kind(f"llama.cpp fails on the GGUF file: {error.read().decode(errors='replace')}") from error
        except (OSError, HTTPException) as error:
            raise StepError(f"llama.cpp crashes on the GGUF file ({path}: {error})") from error


def _told(step: Mapping[str, Any]) -> dict[int, float]:
    """The likeliest tokens of an answer's step with their log probabilities."""
    return {each["id"]: max(each["logprob"], FLOOR) for each in step["top_logprobs"]}


def template_of(file: Path) -> str | None:
    """The chat template of a GGUF file."""
    known: str | None = read_gguf(file, GGUF_TEMPLATE).get(GGUF_TEMPLATE)
    return known


def template_options(template: str | None) -> dict[str, str]:
    """What llama.cpp is to pass to a template, each as JSON, for it to write what it writes where nothing is passed."""
    thinking = thinking_unasked(template) if template else None
    return {} if thinking is None else {"enable_thinking": json.dumps(thinking)}


@contextmanager
def loaded(
    file: Path, *, threads: int, context: int, adapter: Path | None = None, dated: bool = True
) -> Iterator[LlamaCpp]:
    """A GGUF file in llama.cpp, with room for `context` tokens; with a GGUF `adapter`, that is added to it.

    Its chat template writes what it writes in transformers, where nobody passes `enable_thinking` to it; and a fixed
    day in place of today if it is not `dated`. Raises StepError when llama.cpp does not load it.
    """
    template = template_of(file)
    settings = {
        "file": str(file),
        "threads": threads,
        "context": context,
        "adapter": str(adapter or ""),
        "template": "" if dated or template is None else without_today(template),
        "template_options": template_options(template),
    }
    command = [sys.executable, "-P", str(Path(__file__).with_name("llamacpp_process.py")), json.dumps(settings)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process has no pipes")
        address = next((line.strip() for line in process.stdout if line.startswith("http://")), None)
        if address is None:
            process.wait()
            errors.seek(0)
            # llama.cpp's own errors come as: time, E, place: what.
            said = " ".join(line.split(" E ", 1)[-1].strip() for line in errors)[:400].strip()
            raise StepError(f"llama.cpp does not load the GGUF file: {said or 'it says nothing'}")
        try:
            yield LlamaCpp(address)
        finally:
            process.stdin.close()
