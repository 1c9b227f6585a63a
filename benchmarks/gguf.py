"""What each type of GGUF file keeps of the demonstration's model: writes docs/gguf.md."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.measure import BIN
from tuneforge_gguf.types import TYPES

_ROOT = Path(__file__).parents[1]
_PAGE = _ROOT / "docs" / "gguf.md"
_CONVERSATIONS, _STRIDE, _ANSWER = 20, 6, 48

_RECIPE = """name: gguf-types
seed: 1
steps:
  base: {{load_model: builtin}}
  chats: {{format: chat, with: {{path: {data}, holdout: 0.1}}}}
  sft:
    train: sft
    model: base
    data: chats
    with: {{adapter: {{type: lora, r: 16}}, learning_rate: 4e-3, batch_size: 8, steps: 200, max_length: 512}}
  merged: {{merge: adapter, model: sft}}
  full: {{quantize: gguf, model: merged, with: {{type: f32}}}}
{steps}"""

_HEAD = """# GGUF files

Written by `python -m benchmarks gguf`: to change this page, change `benchmarks/gguf.py`.

```yaml
full: {quantize: gguf, model: merged, with: {type: f16}}              # converted once
q4: {quantize: gguf, model: full, with: {type: q4_k_m}}               # made of that file: neither torch nor time
q2: {quantize: gguf, model: full, data: chats, with: {type: q2_k}}    # by importance, measured on those chats
```

A step writes one file of one type. Its model is a model, or a GGUF file of f16, bf16 or f32; one that is quantized
already is refused, since what that took away would be lost in the new one too.

| `type` | written by | most weights are |
|---|---|---|
"""

_BY_CONVERTER = "llama.cpp's converter, of a model; llama.cpp's quantizing, of a GGUF file"
_BY_LLAMA_CPP = "llama.cpp's quantizing"

_HOW = """
Quantizing is llama.cpp's own: by `llama-quantize`, where it is on the PATH or in the folder that `llama_cpp` names,
else by llama-cpp-python, whose sources are compiled the first time, in an environment of their own: about 3 processor
minutes, told as they go, and never again on that machine. It chooses itself which weights get a type of more bits
than most, and where the rows of a weight are no multiple of 256, the types named k and iq4_xs cannot cut them into
their blocks: such a weight falls back to a type with blocks of 32, which the plan and the step say. The figures of a
step tell how many tensors there are of each type (`tensor_types`), how many fell back to which
(`tensors_fallen_back`), and the program and version that did it (`quantized_by`).

With `data:`, the importance matrix is computed first: the model in full is run over `calibration_chunks` pieces of
`calibration_length` tokens of the data's training rows, drawn by the recipe's seed and rendered by the file's own
chat template; for every weight and each of its inputs, the mean of that input's squares is what the rounding is
weighted by. That is what `llama-imatrix` computes. Types of 8 bits and more have no use for it; q2_k and iq4_xs
without it lose much.

Every file is then compared with what it was made of, and deleted if it is not the same model: the metadata, each row
of each weight as far as its type can hold it, token ids of three thousand texts, the next-token probabilities of
llama.cpp.

`quantize: gguf_lora` writes a LoRA adapter as a file for `llama-server -m base.gguf --lora adapter-f16.gguf`, and
compares what llama.cpp makes of base and adapter with what PEFT does. DoRA, IA3, biases and modules that were trained
in full have no place in such a file: merge those.
"""

_MEASURED = """
## What each type keeps

The built-in model of 3.1 million parameters, tuned on the demonstration's orders and merged. Agreement is the share
of positions, in {conversations} held-out conversations, where llama.cpp finds the same token likeliest as
transformers does with the merged model; KL the mean divergence of its next-token probabilities from those, in nats;
answers how many of the {conversations} greedy answers are the same text. Small models suffer more from few bits than
large ones do.

| `type` | file | bits a weight | agreement | KL | same answers |
|---|---|---|---|---|---|
"""


def main() -> None:
    """Has a recipe make a file of every type, and asks llama.cpp and transformers the same."""
    with tempfile.TemporaryDirectory() as folder:
        steps = {name: _step(name, "") for name in TYPES if name != "f32"}
        steps |= {f"{name}_by_importance": _step(name, "data: chats, ") for name in ("q4_k_m", "iq4_xs", "q2_k")}
        recipe = Path(folder, "types.yaml")
        data = _ROOT / "recipes" / "data" / "orders-chat.jsonl"
        lines = "".join(f"  {name}: {step}\n" for name, step in steps.items())
        recipe.write_text(_RECIPE.format(data=data, steps=lines), encoding="utf-8")
        home = os.environ.get("TUNEFORGE_HOME") or str(Path(folder, "home"))
        command = [str(BIN / "tuneforge"), "--home", home, "run", str(recipe), "--json"]
        document = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=folder).stdout)
        made = {step["name"]: step for step in document["steps"]}
        reference = _Reference(home, made["merged"]["digest"], made["chats"]["digest"])
        measured = {}
        for name in ("full", *steps):
            measured[name] = made[name]["metrics"] | reference.compare(made[name]["digest"])
            print(name, measured[name], flush=True)
    _PAGE.write_text(page(measured), encoding="utf-8")


def _step(name: str, data: str) -> str:
    return f"{{quantize: gguf, model: full, {data}with: {{type: {name}}}}}"


def declared() -> str:
    """The part of the page that needs no measuring."""
    from tuneforge_gguf.types import CONVERTED

    rows = (
        f"| `{name}` | {_BY_CONVERTER if name in CONVERTED else _BY_LLAMA_CPP} | {kind.weights} |\n"
        for name, kind in TYPES.items()
    )
    return _HEAD + "".join(rows) + _HOW


def page(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """docs/gguf.md, with the figures of each file."""
    text = declared() + _MEASURED.format(conversations=_CONVERSATIONS)
    for name, figures in measured.items():
        kind = "`f32`" if name == "full" else f"`{name.partition('_by_')[0]}`"
        cells = (
            f"{kind}, by importance" if "_by_" in name else kind,
            f"{figures['bytes'] / 1e6:.2f} MB",
            f"{figures['bits_per_weight']:.2f}",
            f"{figures['agreement']:.1%}",
            f"{figures['divergence']:.4f}",
            f"{figures['same_answers']} of {_CONVERSATIONS}",
        )
        text += f"| {' | '.join(cells)} |\n"
    return text


class _Reference:
    """The merged model in transformers, and the held-out conversations that it is asked about."""

    def __init__(self, home: str, merged: str, chats: str) -> None:
        import torch

        from tuneforge import ChatData, Model
        from tuneforge.kit.models import load_model, load_tokenizer
        from tuneforge.kit.rows import read_rows
        from tuneforge_registry import Registry

        self._registry = Registry(Path(home))
        model = Model(self._registry.tree(merged), merged)
        self._tokenizer = load_tokenizer(model)
        self._model: Any = load_model(model, dtype=torch.float32, on=torch.device("cpu"))
        data = ChatData(self._registry.tree(chats), chats)
        self._rows = [row["messages"] for row in islice(read_rows(data, "held_out"), _CONVERSATIONS)]

    def compare(self, digest: str) -> dict[str, float]:
        """A GGUF file's agreement, divergence and answers."""
        import numpy as np
        import torch

        from tuneforge.kit.chats import chat_ids, prompt_ids, stop_tokens
        from tuneforge.kit.llamacpp import loaded

        agreeing, divergences, answers = [], [], 0
        vocabulary, (*_, letter) = len(self._tokenizer), self._tokenizer("a")["input_ids"]
        stops = stop_tokens(self._model, self._tokenizer)
        (file,) = self._registry.tree(digest).glob("*.gguf")
        asked: set[tuple[int, ...]] = set()  # as many conversations begin alike: each beginning counts once
        with loaded(file, threads=1, context=512) as llama:
            for messages in self._rows:
                ids = chat_ids(self._tokenizer, messages)
                with torch.inference_mode():
                    rows = self._model(torch.tensor([ids])).logits[0].double().log_softmax(-1).numpy()
                for end in range(_STRIDE, len(ids), _STRIDE):
                    if tuple(ids[:end]) in asked:
                        continue
                    asked.add(tuple(ids[:end]))
                    theirs = np.array(llama.log_probabilities(ids[:end], vocabulary, letter))
                    ours = rows[end - 1]
                    agreeing.append(bool(ours.argmax() == theirs.argmax()))
                    divergences.append(float((np.exp(ours) * (ours - theirs)).sum()))
                prompt = prompt_ids(self._tokenizer, messages[:-1])
                answers += self._answer(prompt, stops) == "".join(_pieces(llama, prompt))
        return {
            "agreement": sum(agreeing) / len(agreeing),
            "divergence": max(0.0, sum(divergences) / len(divergences)),  # below 0 by the rounding of what is told
            "same_answers": answers,
        }

    def _answer(self, prompt: Sequence[int], stops: list[int]) -> str:
        import torch

        given = torch.tensor([prompt])
        settings = {"max_new_tokens": _ANSWER, "do_sample": False, "eos_token_id": stops, "pad_token_id": stops[0]}
        written = self._model.generate(given, attention_mask=torch.ones_like(given), **settings)[0, len(prompt) :]
        return str(self._tokenizer.decode([token for token in written.tolist() if token not in stops]))


def _pieces(llama: Any, prompt: Sequence[int]) -> Iterator[str]:
    yield from llama.answer(prompt, _ANSWER, temperature=0)
