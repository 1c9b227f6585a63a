"""Comparing what two forms of a model say."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tuneforge import Step, StepError
from tuneforge.artifacts import read_json

from .kinds import Probe
from .numbers import Numbers, divergence, read
from .telling import table, told_failures, write_plot
from .thresholds import AT_MOST, bars, format_of

if TYPE_CHECKING:
    from . import CompareProbes

Known = Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """`scores` by name, None for one that could not be measured; `divergences` of the positions, in nats."""

    scores: dict[str, float | None]
    divergences: list[float]


def compare(method: CompareProbes, reference: Probe, model: Probe, step: Step) -> None:
    """Writes report.json, parity.md and parity.svg; a form that fails is warned of."""
    trained, form = (read_json(probe.path / "probe.json") for probe in (reference, model))
    if trained["asked"] != form["asked"]:
        raise StepError(
            "the two probes were asked different things",
            "Give both the same data, limit, positions and max_new_tokens.",
        )
    if ("scores" in trained) != ("scores" in form):
        raise StepError("one probe is of a reward model and the other is not", "Compare two forms of one model.")
    found = compared(trained, form, *(read(probe.path / "numbers.safetensors") for probe in (reference, model)))
    for done, value in enumerate(sorted(found.divergences), 1):
        step.progress(done, len(found.divergences), kl_divergence=value)
    wanted = bars(trained["form"], form["form"], method.formats, method.require)
    wanted = {name: bar for name, bar in wanted.items() if name in found.scores}
    missed = [name for name, bar in wanted.items() if not _reached(name, found.scores[name], bar)]
    failures = told_failures(missed, found.scores, wanted, trained, form)
    subject = form["subject"]
    report = {
        "subjects": [subject],
        "passed": not failures,
        "failures": {subject: failures} if failures else {},
        "scores": {subject: found.scores},
        "format": form["form"]["name"],
        "reference": trained["form"]["name"],
        "positions": len(found.divergences),
        "required": wanted,
    }
    (step.out / "report.json").write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    (step.out / "parity.md").write_text(table(found.scores, wanted, missed, trained, form), encoding="utf-8")
    write_plot(found.divergences, wanted, step.out / "parity.svg")
    step.metrics(passed=not failures, **{name: {subject: value} for name, value in found.scores.items()})
    if failures:
        step.warn(f"the model in {form['form']['name']} is not what was trained: {'; '.join(failures)}", _FIX)
    else:
        step.log(
            f"{form['form']['name']} says what the trained form says, as far as {format_of(form['form']['bits'])} can"
        )


_FIX = "Do not release it. docs/parity.md tells how to read each failure."


def compared(trained: Known, form: Known, ours: Numbers, theirs: Numbers) -> Comparison:
    """The scores of a form against the trained one; a function of the two probes."""
    scores: dict[str, float | None] = {
        "template": _alike(trained["rendered"], form["rendered"]),
        "prompt_ids": _alike(trained["prompts"], form["prompts"]),
        "string_ids": _alike(trained["strings"], form["strings"]),
        "stop_tokens": float(not stops_lost(trained["stops"], form["stops"])),
    }
    divergences: list[float] = []
    if "scores" in trained:
        scores["score_error"] = _score_error(trained["scores"], form["scores"])
    else:
        pairs = list(_positions(trained, form))
        divergences = [divergence(ours, theirs, row, other) for row, other in pairs]
        agreed = [ours.tokens[row, 0] == theirs.tokens[other, 0] for row, other in pairs]
        scores |= {
            "top1": _figure(float(np.mean(agreed))) if pairs else None,
            "kl_mean": _figure(float(np.mean(divergences))) if pairs else None,
            "kl_p99": _figure(float(np.percentile(divergences, 99))) if pairs else None,
            "perplexity_ratio": _ratio(trained, form, pairs),
            "answers": _same_answers(trained, form),
        }
    scores["bits"] = form["form"]["measured"]
    return Comparison(scores, divergences)


def stops_lost(trained: Known, form: Known) -> bool:
    """Whether answers end elsewhere.

    Of a GGUF file it is known of some tokens only whether they end an answer, and llama.cpp ends one at more of them
    by their names: there each token that ends the trained form's answers must do so, as far as it was tried.
    """
    if trained["eos"] != form["eos"]:
        return True
    ours, theirs = (_ends(stops) for stops in (trained, form))
    if trained["go_on"] is None and form["go_on"] is None:
        return ours != theirs
    return bool(ours & set(form["go_on"] or ()) or theirs & set(trained["go_on"] or ()))


def _ends(stops: Known) -> set[int]:
    return set(stops["end"])


def _positions(trained: Known, form: Known) -> Iterator[tuple[int, int]]:
    """The positions of both, by their numbers, where both were shown the same tokens."""
    theirs = {json.dumps([question, row]): start for question, row, start in _rows(form)}
    for question, row, start in _rows(trained):
        other = theirs.get(json.dumps([question, row]))
        if other is not None:
            yield from ((start + place, other + place) for place in range(len(row["at"])))


def _rows(known: Known) -> Iterator[tuple[Any, Any, int]]:
    start = 0
    for question, row in zip(known["asked_rows"], known["rows"], strict=True):
        yield question, row, start
        start += len(row["at"])


def _ratio(trained: Known, form: Known, pairs: Sequence[tuple[int, int]]) -> float | None:
    """The larger of two perplexities over the smaller, on the tokens that both were shown and tell of."""
    ours, theirs = trained["targets"], form["targets"]
    told = [(ours[row], theirs[other]) for row, other in pairs]
    differences = [one - two for one, two in told if one is not None and two is not None]
    return _figure(math.exp(min(abs(sum(differences) / len(differences)), 100))) if differences else None


def _same_answers(trained: Known, form: Known) -> float | None:
    ours, theirs = (dict(_answers(known)) for known in (trained, form))
    same = [answer == theirs[question] for question, answer in ours.items() if question in theirs]
    return _figure(sum(same) / len(same)) if same else None


def _answers(known: Known) -> Iterator[tuple[str, Any]]:
    yield from zip(map(json.dumps, known["asked_rows"]), known["answers"], strict=True)


def _score_error(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    spread = float(np.std(ours)) or 1.0
    return _figure(float(np.max(np.abs(np.subtract(ours, theirs)))) / spread)


def _alike(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    return float(round(sum(one == two for one, two in zip(ours, theirs, strict=True)) / len(ours), 6))


def _reached(name: str, value: float | None, bar: float) -> bool:
    if value is None:
        return False
    return value <= bar if name in AT_MOST else value >= bar


def _figure(value: float) -> float | None:
    """As reports tell it: what is beyond the first digits differs from one machine to the next."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
