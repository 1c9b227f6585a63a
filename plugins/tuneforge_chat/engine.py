"""Answers of transformers' `generate`, token by token."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
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
        self._context = min((length for length in (own, context) if length is not None), default=None)

    def reply(self, messages: Sequence[Message], manner: Manner) -> Generator[str, None, str]:
        """See `tuneforge.Voice`."""
        prompt = prompt_ids(self._tokenizer, messages)
        tokens, cut = manner.room(len(prompt), self._context)
        ended = yield from _text(self._tokenizer, self._tokens(prompt, tokens, manner), self._stops)
        return "" if ended else cut

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
