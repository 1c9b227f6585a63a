"""What a comparison found, in words, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .thresholds import AT_MOST

Known = Mapping[str, Any]
Scores = Mapping[str, float | None]

_WHAT = {
    "template": "prompts rendered to the same text",
    "prompt_ids": "prompts with the same token ids",
    "string_ids": "plain strings with the same token ids",
    "stop_tokens": "answers end at the same tokens",
    "top1": "same likeliest token",
    "kl_mean": "KL divergence, mean (nats)",
    "kl_p99": "KL divergence, 99th percentile (nats)",
    "perplexity_ratio": "ratio of perplexities",
    "answers": "same greedy answers",
    "bits": "bits a weight",
    "score_error": "greatest difference of a score, of their spread",
}
_SAYS = ("top1", "kl_mean", "kl_p99", "perplexity_ratio", "answers", "score_error")
_UNMEASURED = "no prompt has the same tokens in both forms"


def told_failures(missed: Sequence[str], scores: Scores, wanted: Scores, trained: Known, form: Known) -> list[str]:
    """Why a form is not let go: what was missed by how much, what that usually means, and what mends it."""
    return list(_failures(list(missed), scores, wanted, trained, form))


def _failures(missed: list[str], scores: Scores, wanted: Scores, trained: Known, form: Known) -> Iterator[str]:
    if "template" in missed:
        ours, theirs = _first_unlike(trained["rendered"], form["rendered"])
        yield (
            f"{_missed('template', scores, wanted)}: the form has another chat template ({_short(theirs)}, not "
            f"{_short(ours)}); export it with the trained model's chat_template.jinja"
        )
    if "prompt_ids" in missed and "template" not in missed:
        yield (
            f"{_missed('prompt_ids', scores, wanted)}: the tokenizer splits or marks text differently, by a wrong "
            "pre-tokenizer or a BOS token too many or too few; export it with the trained model's tokenizer"
        )
    elif "string_ids" in missed:
        yield (
            f"{_missed('string_ids', scores, wanted)}: another tokenizer, or a wrong pre-tokenizer; export it with the "
            "trained model's tokenizer"
        )
    if "stop_tokens" in missed:
        yield (
            f"answers end elsewhere: {_stops(form['stops'])}, the trained form's {_stops(trained['stops'])}; a stop "
            "token was swapped or lost (eos_token_id of generation_config.json, eos_token of tokenizer_config.json)"
        )
    if "bits" in missed:
        yield (
            f"{scores['bits']:.3g} bits a weight are in its files, which claim {form['form']['bits']:g} and should "
            f"hold {wanted['bits']:.3g} at most: it was not quantized, or only in part"
        )
    says = [name for name in missed if name in _SAYS]
    measured = [name for name in says if scores[name] is not None]
    if measured:
        yield f"{', '.join(_missed(name, scores, wanted) for name in measured)}: {_cause(form, {*missed})}"
    if len(measured) < len(says):
        yield f"{', '.join(name for name in says if name not in measured)} could not be measured: {_UNMEASURED}"


def _cause(form: Known, missed: set[str]) -> str:
    if {"template", "prompt_ids"} & missed:
        return "it reads other tokens than the trained form"
    if form["form"]["bits"] >= 16:
        return (
            "the weights are not the trained ones: merged onto another base, onto one rounded to 4 or 8 bits, or "
            "without a part of the adapter; merge it again, onto the full-precision model it was trained on"
        )
    return (
        "more is lost than this format loses: made from another model, by a wrong architecture or scale, or too few "
        "bits for this model; see first whether the merged model passes, then take more bits or calibrate"
    )


def _missed(name: str, scores: Scores, wanted: Scores) -> str:
    word = "at most" if name in AT_MOST else "at least"
    return f"{name} is {scores[name]:.4g}, {word} {wanted[name]:.4g} is required"


def _stops(stops: Known) -> str:
    return f"at {stops['end']}, with eos token {stops['eos']}"


def _first_unlike(ours: Sequence[Any], theirs: Sequence[Any]) -> tuple[Any, Any]:
    return next((one, two) for one, two in zip(ours, theirs, strict=True) if one != two)


def _short(text: str | None) -> str:
    if text is None:
        return "none"
    return repr(text if len(text) <= 60 else f"{text[:40]}...{text[-17:]}")


def table(scores: Scores, wanted: Scores, missed: Sequence[str], trained: Known, form: Known) -> str:
    """The scores in Markdown."""
    lines = [f"# {form['form']['name']} against {trained['form']['name']}", ""]
    lines += [f"| what is compared | in {form['form']['runtime']} | required | |", "|---|---|---|---|"]
    for name, value in scores.items():
        word = "at most" if name in AT_MOST else "at least"
        bar = f"{word} {wanted[name]:.4g}" if name in wanted else ""
        said = "-" if value is None else f"{value:.4g}"
        lines.append(f"| {_WHAT[name]} | {said} | {bar} | {'**failed**' if name in missed else 'passed'} |")
    return "\n".join(lines) + "\n"


def write_plot(divergences: Sequence[float], wanted: Scores, path: Path) -> None:
    """The divergences of all positions, the least first, as a curve."""
    from tuneforge.report.curves import draw
    from tuneforge.report.points import Curve

    if divergences:
        numbers = list(map(float, range(1, len(divergences) + 1)))
        curve = Curve("kl_divergence", numbers[-1], numbers, [0.0] * len(numbers), sorted(divergences))
        path.write_text(draw([curve]), encoding="utf-8")
