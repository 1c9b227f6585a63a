"""Recording what one form of a model says."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from tuneforge import Artifact, Gguf, RewardAdapter, RewardModel, Step, StepError
from tuneforge.kit.rows import Data
from tuneforge.kit.texts import PLAIN, odd_texts

from .formats import Form
from .numbers import Distribution, write
from .prompts import RENDERED, Messages, Question, choose

if TYPE_CHECKING:
    from . import RecordProbe

# Imported once a run where they are: the environments of GGUF files and of quantized models may lack them.
if importlib.util.find_spec("peft"):
    from tuneforge.kit import rewards as rewards
if importlib.util.find_spec("torch"):
    from . import with_transformers

CONTEXT = 2048
"""Tokens of a prompt with its answer: longer ones are left out, in all forms alike."""

_TOLD = 256
"""Tokens that a distribution tells of. llama.cpp's server tells its numbers as text: of 3,000 tokens in 130 ms, of so
many in 6, and all others together are seldom more than a thousandth."""


class Runtime(Protocol):
    """A form of a model in memory. See `with_transformers` and `with_llamacpp` for what its members do."""

    form: Form
    context: int | None
    bos: str

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def render(self, messages: Messages) -> str | None: ...
    def prompt(self, rendered: str) -> list[int]: ...
    def text(self, text: str, *, begins: bool = False) -> list[int]: ...
    def distributions(self, ids: Sequence[int], at: Sequence[int], most: int) -> list[Distribution]: ...
    def answer(self, ids: Sequence[int], most: int) -> tuple[str, bool]: ...
    def stops(self, prompts: Sequence[Sequence[int]]) -> dict[str, Any]: ...
    def scores(self, conversations: Sequence[Messages]) -> list[float]: ...


@dataclass(frozen=True)
class Asked:
    """A question as a form reads it: `prompt` and `answer` are token ids, the data's answer by the form's tokenizer."""

    question: Question
    prompt: list[int]
    answer: list[int]


def record(method: RecordProbe, artifact: Artifact, data: Data | None, step: Step) -> None:
    """Writes probe.json and numbers.safetensors."""
    questions = choose(data, method.limit, step.seed)
    if data is not None and questions.source == "built-in":
        step.log("the data has no row of plain conversation: the built-in prompts are asked")
    if questions.cut:
        step.log(f"{questions.cut} of {len(questions.items)} conversations are cut short")
    with _runtime(artifact, step.threads) as runtime:
        rendered = [runtime.render(messages) for messages in RENDERED]
        rendered += [runtime.render(question.messages) for question in questions.items if question.messages]
        strings = [*PLAIN, *odd_texts(300)]
        known: dict[str, Any] = {
            "subject": artifact.digest,
            "kind": artifact.kind,
            "form": runtime.form.told(),
            "asked": _asked(method, questions.items),
            "source": questions.source,
            # Some runtimes leave the BOS token to the tokenizer: whether it is there, token ids tell.
            "rendered": [text.removeprefix(runtime.bos) if text is not None else None for text in rendered],
            "prompts": [runtime.prompt(text) if text is not None else None for text in rendered],
            "strings": [runtime.text(text) for text in strings],
        }
        known["stops"] = runtime.stops([ids for ids in known["prompts"] if ids])
        step.progress(1, 3)
        distributions: list[Distribution] = []
        if isinstance(artifact, (RewardModel, RewardAdapter)):
            known["scores"] = _finite(runtime.scores(list(_conversations(questions.items))))
        else:
            distributions = _say(runtime, method, questions.items, known, step)
    write(distributions, step.out / "numbers.safetensors")
    text = json.dumps(known, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)
    (step.out / "probe.json").write_text(text + "\n", encoding="utf-8")
    step.metrics(bits=runtime.form.bits, measured_bits=known["form"]["measured"], prompts=len(questions.items))
    step.metrics(positions=len(distributions), perplexity=known.get("perplexity"))
    step.log(f"{runtime.form.name} in {runtime.form.runtime}, {runtime.form.measured:.2f} bits a weight")


def _say(
    runtime: Runtime, method: RecordProbe, questions: Sequence[Question], known: dict[str, Any], step: Step
) -> list[Distribution]:
    """What follows parts of the data's answers, and what the model answers itself; into `known`, too."""
    room = min(CONTEXT, runtime.context or CONTEXT)
    given = [_read(runtime, question) for question in questions]
    fitting = [each for each in given if each.prompt and len(each.prompt) + _needs(method, each) <= room]
    if not fitting:
        raise StepError(
            f"no prompt fits into {room} tokens with its answer", "Give the probe data with shorter conversations."
        )
    distributions, rows, answers = [], [], []
    for done, each in enumerate(fitting, 1):
        ids = [*each.prompt, *each.answer]
        at = _places(len(each.prompt), len(ids), method.positions)
        told = runtime.distributions(ids, at, _TOLD)
        _finite([float(distribution.logprobs[0]) for distribution in told])
        distributions += told
        rows.append({"prompt": each.prompt, "answer": each.answer, "at": at})
        text, ended = runtime.answer(each.prompt, method.max_new_tokens)
        answers.append({"text": text, "ended": ended})
        step.progress(1 + 2 * done / len(fitting), 3)
    targets = [each.target for each in distributions if each.target is not None]
    known |= {
        "asked_rows": [asdict(each.question) for each in fitting],
        "rows": rows,
        "answers": answers,
        "targets": [None if each.target is None else round(each.target, 6) for each in distributions],
        "perplexity": round(math.exp(min(-sum(targets) / len(targets), 100)), 6) if targets else None,
        "left_out": len(given) - len(fitting),
    }
    return distributions


def _finite(told: list[float]) -> list[float]:
    if not all(map(math.isfinite, told)):
        raise StepError(
            "what the model computes is not finite: it cannot be used in this form",
            "Merge or quantize it in a type of a wider range, such as bfloat16 in place of float16.",
        )
    return told


def _read(runtime: Runtime, question: Question) -> Asked:
    rendered = runtime.render(question.messages) if question.messages else None
    if rendered is not None:
        prompt = runtime.prompt(rendered)
    else:
        plain = "\n".join(message["content"] for message in question.messages) or question.text
        prompt = runtime.text(plain, begins=True)
    return Asked(question, prompt, runtime.text(question.answer))


def _needs(method: RecordProbe, asked: Asked) -> int:
    return max(method.max_new_tokens, len(asked.answer)) + 1


def _places(start: int, end: int, most: int) -> list[int]:
    """At most so many numbers from `start` to `end`, both among them, evenly spread."""
    spread = min(most, end - start + 1)
    return sorted({start + (end - start) * place // max(spread - 1, 1) for place in range(spread)})


def _conversations(questions: Sequence[Question]) -> list[Messages]:
    answers = [(question.messages, answer) for question in questions for answer in (question.answer, question.other)]
    return [[*messages, {"role": "assistant", "content": answer}] for messages, answer in answers if answer is not None]


def _asked(method: RecordProbe, questions: Sequence[Question]) -> str:
    """What two probes must share to be compared."""
    everything = [[asdict(question) for question in questions], method.positions, method.max_new_tokens]
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def _runtime(artifact: Artifact, threads: int) -> Runtime:
    if isinstance(artifact, Gguf):
        from .with_llamacpp import WithLlamaCpp

        return WithLlamaCpp(artifact, threads, CONTEXT)
    return with_transformers.WithTransformers(artifact, threads)
