"""Forms that transformers runs: models, adapters on their bases, quantized models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, GenerationConfig
from transformers.utils.logging import disable_progress_bar

from tuneforge import Adapter, Artifact, RewardAdapter, RewardModel
from tuneforge.artifacts import Tensor, context_length, read_json, read_tensors
from tuneforge.kit.chats import ChatRefusedError, chat_ids, prompt_text, terminator
from tuneforge.kit.folders import stored_stops

from .formats import Form, claimed
from .loading import folder_of, load
from .numbers import Distribution
from .prompts import Messages


class WithTransformers:
    """An artifact in memory, on this process's accelerator where it has one."""

    def __init__(self, artifact: Artifact, threads: int) -> None:
        disable_progress_bar()
        torch.set_num_threads(threads)
        self._artifact = artifact
        self._model, self._tokenizer = load(artifact)
        self.bos = str(self._tokenizer.bos_token or "")
        self._stops = _stops(artifact, self._tokenizer)
        config = read_json(folder_of(artifact) / "config.json")
        self.context = context_length(config)
        self.form = _form(artifact, config, str(self._model.dtype).removeprefix("torch."))

    def __enter__(self) -> WithTransformers:
        return self

    def __exit__(self, *error: object) -> None:
        del self._model

    def render(self, messages: Messages) -> str | None:
        """The prompt as text; None where the template refuses, or is not there."""
        if self._tokenizer.chat_template is None:
            return None
        try:
            return prompt_text(self._tokenizer, messages)
        except ChatRefusedError:
            return None

    def prompt(self, rendered: str) -> list[int]:
        """Token ids of what `render` gave."""
        return self._ids(rendered)

    def text(self, text: str, *, begins: bool = False) -> list[int]:
        """Token ids of plain text; with what a text begins with, where it `begins`."""
        return self._ids(text, special=begins)

    def distributions(self, ids: Sequence[int], at: Sequence[int], most: int) -> list[Distribution]:
        """What follows the first `at` tokens, for each of those."""
        with torch.inference_mode():
            # An adapter that is a prompt has logits for that too, before those of the text.
            logits = self._model(torch.tensor([ids], device=self._model.device)).logits[0, -len(ids) :]
            told = logits[[place - 1 for place in at]].float().log_softmax(-1)
            best = told.topk(min(most, told.shape[-1]))
        found = []
        for row, place in enumerate(at):
            target = float(told[row, ids[place]]) if place < len(ids) else None
            found.append(Distribution(best.indices[row].cpu().numpy(), best.values[row].cpu().numpy(), target))
        return found

    def answer(self, ids: Sequence[int], most: int) -> tuple[str, bool]:
        """A greedy answer of at most so many tokens, and whether a stop token ended it."""
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=most,
            eos_token_id=self._stops or None,
            pad_token_id=self._stops[0] if self._stops else 0,
        )
        inner = self._model.get_base_model() if hasattr(self._model, "get_base_model") else self._model
        # generate() fills in what is not set from the model's own settings: sampling, penalties and the like.
        inner.generation_config = GenerationConfig()
        prompt = torch.tensor([ids], device=self._model.device)
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=prompt, attention_mask=torch.ones_like(prompt), generation_config=config
            )
        written = output[0, len(ids) :].tolist()
        ended = bool(written) and written[-1] in self._stops
        said = self._tokenizer.decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(said).strip(), ended

    def stops(self, prompts: Sequence[Sequence[int]]) -> dict[str, Any]:
        """`eos`, the token that the tokenizer names; all that end an answer; those that were tried and do not."""
        return {"eos": self._tokenizer.eos_token_id, "end": self._stops, "go_on": None}

    def scores(self, conversations: Sequence[Messages]) -> list[float]:
        """Of a reward model, what it finds conversations worth."""
        from tuneforge.kit.rewards import score

        return [score(self._model, [chat_ids(self._tokenizer, messages)])[0] for messages in conversations]

    def _ids(self, text: str, special: bool = False) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def _stops(artifact: Artifact, tokenizer: Any) -> list[int]:
    """What ends an answer by the artifact's own files; of an adapter, which has none of its own, as it is served."""
    stops = [*stored_stops(folder_of(artifact)), tokenizer.eos_token_id]
    if isinstance(artifact, Adapter):
        stops.append(terminator(tokenizer))
    return sorted({token for token in stops if token is not None})


def _form(artifact: Artifact, config: dict[str, Any], computed: str) -> Form:
    tensors = read_tensors(folder_of(artifact))
    name, bits = claimed(config, tensors)
    if isinstance(artifact, (Adapter, RewardAdapter)):
        name = f"adapter on {name}"
    return Form(name, "transformers", computed, "", bits, _measured(artifact, tensors))


def _measured(artifact: Artifact, tensors: dict[str, Tensor]) -> float:
    """Bits a weight: what the files hold, over how many weights the architecture has, embeddings aside."""
    config = AutoConfig.from_pretrained(folder_of(artifact))
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    scores = isinstance(artifact, RewardModel)
    kind: Any = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
    with torch.device("meta"):
        model = kind.from_config(config)
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    aside = tuple(f"{name}." for name, module in model.named_modules() if any(module is end for end in ends))
    weights = sum(
        weight.numel() for name, weight in model.named_parameters() if weight.dim() > 1 and not name.startswith(aside)
    )
    held = sum(tensor.bytes for name, tensor in tensors.items() if not name.startswith(aside))
    return float(8 * held / weights)
