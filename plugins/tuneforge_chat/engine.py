"""Answers of transformers' `generate`, token by token."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedTokenizerBase, StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from tuneforge import Adapter, Artifact, Manner, Message, Model, QuantizedModel, StepError
from tuneforge.artifacts import context_length, read_json
from tuneforge.kit.chats import prompt_ids, stop_tokens
from tuneforge.kit.models import full_model, inference_dtype, load_model, load_tokenizer
from tuneforge.kit.quantized_models import load_quantized

_HALF = "\ufffd"
"""What bytes that are no whole character are decoded to."""


@dataclass(frozen=True)
class Written:
    """How an answer ended: after how many tokens, and whether the model or a stop string ended it."""

    tokens: int
    ended: bool


class Loaded:
    """A model or adapter in memory, on the device of `tuneforge.kit.models.device`."""

    def __init__(self, artifact: Artifact, threads: int, context: int | None) -> None:
        if not isinstance(artifact, Model | Adapter | QuantizedModel):
            raise StepError(f"transformers loads no {artifact.kind}")
        torch.set_num_threads(threads)
        self._tokenizer = load_tokenizer(artifact)
        dtype = inference_dtype(artifact)
        self._model: Any = (
            load_quantized(artifact, dtype=dtype)
            if isinstance(artifact, QuantizedModel)
            else load_model(artifact, dtype=dtype)
        )
        inner: Any = self._model.get_base_model() if isinstance(self._model, PeftModel) else self._model
        self._stops = stop_tokens(inner, self._tokenizer)
        # generate() fills in what is not set from the model's own settings: sampling, penalties and the like.
        inner.generation_config = GenerationConfig()
        own = context_length(read_json(full_model(artifact).path / "config.json"))
        self.context = min((length for length in (own, context) if length is not None), default=None)
        """Tokens that a conversation may have with its answer; None if nothing says."""

    def reply(self, messages: Sequence[Message], manner: Manner) -> Generator[str, None, str]:
        """See `tuneforge.Voice`."""
        prompt = self.prompt(messages)
        tokens, cut = manner.room(len(prompt), self.context)
        written = yield from self.write(prompt, tokens, manner)
        return "" if written.ended else cut

    def prompt(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """The tokens of a conversation up to the answer. Raises StepError for one that the template refuses."""
        return prompt_ids(self._tokenizer, messages)

    def tokenize(self, text: str) -> list[int]:
        """The tokens of a text as the tokenizer begins one, outside a conversation."""
        ids: list[int] = self._tokenizer(text, verbose=False)["input_ids"]
        return ids

    def write(
        self, prompt: list[int], most: int, manner: Manner, until: Sequence[str] = ()
    ) -> Generator[str, None, Written]:
        """Yields what follows a prompt, at most that many tokens, in pieces of whole characters.

        It ends before the first of the stop strings `until`.
        """
        tokens = _Counted(self._tokens(prompt, most, manner))
        ended = yield from _before(_text(self._tokenizer, tokens, self._stops), until)
        return Written(tokens.count, ended)

    def _tokens(self, prompt: list[int], most: int, manner: Manner) -> Iterator[int]:
        """The tokens of an answer as they are generated, at most that many; ends after a stop token."""
        drawn = {"do_sample": True, "temperature": manner.temperature, "top_p": manner.top_p, "top_k": 0}
        config = GenerationConfig(
            max_new_tokens=most,
            eos_token_id=self._stops or None,
            pad_token_id=self._stops[0] if self._stops else 0,
            **(drawn if manner.temperature > 0 else {"do_sample": False}),
        )
        written: SimpleQueue[int | BaseException | None] = SimpleQueue()
        stopped = Event()

        def generate() -> None:
            try:
                torch.manual_seed(manner.seed)
                ids = torch.tensor([prompt], device=self._model.device)
                self._model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    generation_config=config,
                    streamer=_Streamer(written),
                    stopping_criteria=[_Stopped(stopped)],
                )
                written.put(None)
            except BaseException as error:  # raised again where the answer is read
                written.put(error)

        thread = Thread(target=generate)
        thread.start()
        try:
            while isinstance(token := written.get(), int):
                yield token
        finally:
            stopped.set()
            thread.join()
        if token is not None:
            raise token


class _Counted:
    """Tokens, and how many of them there were."""

    def __init__(self, tokens: Iterator[int]) -> None:
        self.count = 0
        self._tokens = tokens

    def __iter__(self) -> Iterator[int]:
        for token in self._tokens:
            self.count += 1
            yield token


def _before(pieces: Generator[str, None, bool], stops: Sequence[str]) -> Generator[str, None, bool]:
    """Yields pieces up to the first stop string; returns whether that, or what wrote them, has ended them.

    What may be the beginning of a stop string is held back until that is known.
    """
    held = ""
    while True:
        try:
            held += next(pieces)
        except StopIteration as end:
            if held:
                yield held
            return bool(end.value)
        places = [place for stop in stops if (place := held.find(stop)) >= 0]
        if places:
            pieces.close()
            if min(places):
                yield held[: min(places)]
            return True
        half = max((size for stop in stops for size in range(1, len(stop)) if held.endswith(stop[:size])), default=0)
        if len(held) > half:
            yield held[: len(held) - half]
            held = held[len(held) - half :]


def _text(
    tokenizer: PreTrainedTokenizerBase, tokens: Iterable[int], stops: Sequence[int]
) -> Generator[str, None, bool]:
    """Yields what tokens say, in pieces of whole characters; returns whether a stop token ended them."""
    ids: list[int] = []
    said, ended = "", False
    for token in tokens:
        ended = token in stops
        if ended:
            break
        ids.append(token)
        # Decoded as a whole: what a token says may depend on those before it.
        text = _decode(tokenizer, ids).rstrip(_HALF)
        if len(text) > len(said) and text.startswith(said):
            yield text[len(said) :]
            said = text
    if rest := _decode(tokenizer, ids)[len(said) :]:
        yield rest
    return ended


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class _Streamer(BaseStreamer):
    """Puts every token into a queue but for the prompt, which `generate` tells first."""

    def __init__(self, written: SimpleQueue[int | BaseException | None]) -> None:
        self._written = written
        self._begun = False

    def put(self, value: torch.Tensor) -> None:
        if self._begun:
            self._written.put(int(value))
        self._begun = True

    def end(self) -> None: ...


class _Stopped(StoppingCriteria):
    """Ends the generation once an event is set."""

    def __init__(self, stopped: Event) -> None:
        self._stopped = stopped

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **arguments: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self._stopped.is_set(), device=input_ids.device)
