"""The model card: README.md with the metadata that the Hugging Face Hub reads."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import yaml

from tuneforge import Report
from tuneforge.kit.quantized import quant_method

from .lineage import DATA, Lineage
from .metadata import Metadata, front_matter
from .parts import Part


def card(
    metadata: Metadata, parts: Sequence[Part], lineage: Lineage, reports: Sequence[Report], use: Sequence[str]
) -> str:
    """The whole card, in Markdown. `use` tells how to run what is there."""
    released = [part for part in parts if part.released]
    sections = [
        front_matter(metadata, released, lineage, reports),
        f"# {metadata.title}",
        f"Made with tuneforge by the recipe `{lineage.recipe}`.",
        _contents(parts, lineage),
        *([f"## Intended use\n\n{metadata.intended_use.strip()}"] if metadata.intended_use.strip() else []),
        "## Use",
        *use,
        *_scores(reports, lineage),
        "## How it was made",
        "\n".join(["```text", *_trees(released, lineage), "```"]),
        *_data(lineage),
        *_parameters(lineage),
        *_recipe(lineage),
        "## Check the files\n\n```sh\nsha256sum -c SHA256SUMS\n```",
    ]
    return "\n\n".join(sections) + "\n"


def _contents(parts: Sequence[Part], lineage: Lineage) -> str:
    rows = [(f"`{part.folder}`", *_described(part), _how(lineage.entry(part.artifact.digest))) for part in parts]
    return _table(("folder", "what", "size", "made by"), rows)


def _described(part: Part) -> tuple[str, str]:
    """What an artifact is, and its size."""
    tensors = part.facts.tensors.values()
    model = part.facts.config.get("model_type")
    size = sum(file.stat().st_size for file in part.artifact.path.rglob("*") if file.is_file())
    what = [part.artifact.kind if part.released else f"{part.artifact.kind}, the adapter's base"]
    if model:
        what.append(str(model))
    method = quant_method(part.facts.config)
    if method:
        what.append(method)  # several weights share a number of its tensors
    elif tensors:
        count = sum(prod(tensor.shape) for tensor in tensors)
        what.append(f"{_short(count)} parameters, {'/'.join(sorted({tensor.dtype for tensor in tensors}))}")
    return ", ".join(what), f"{_short(size)}B"


def _how(entry: dict[str, Any] | None) -> str:
    return f"`{entry['stage']}: {entry['method']}`" if entry and "stage" in entry else "the registry"


def _scores(reports: Sequence[Report], lineage: Lineage) -> Iterator[str]:
    told = {report: Report.summary(report.path) for report in reports}
    heading = ""
    # A report with a reference compares forms of one model, and says nothing of how good that is.
    for report, summary in sorted(told.items(), key=lambda one: "reference" in one[1]):
        about = "## Parity" if "reference" in summary else "## Scores"
        if about != heading:
            yield about
            heading = about
        scores: dict[str, dict[str, Any]] = summary["scores"]
        entry = lineage.entry(report.digest)
        by = f" ({_how(entry)})" if entry and "stage" in entry else ""
        if "reference" in summary:
            against = f": {summary['format']} against {summary['reference']}"
            on = f"{against}, at {summary['positions']} positions" if summary.get("positions") else against
        else:
            split = f" of the {summary['split'].replace('_', '-')} part" if "split" in summary else ""
            on = f", on {summary['rows']} rows{split}" if "rows" in summary else ""
        metrics = list(dict.fromkeys(metric for subject in scores.values() for metric in subject))
        rows = [
            (lineage.name(subject), *(_figure(scores[subject].get(metric)) for metric in metrics))
            for subject in summary["subjects"]
        ]
        if summary.get("required"):
            rows.append(("required", *(_figure(summary["required"].get(metric)) for metric in metrics)))
        yield f"**{lineage.name(report.digest)}**{by}{on}{'' if summary['passed'] else '; it failed'}:"
        yield _table(("", *(metric.replace("_", " ") for metric in metrics)), rows)


def _data(lineage: Lineage) -> Iterator[str]:
    told = [entry for entry in lineage.steps.values() if entry["kind"] in DATA]
    if not told:
        return
    yield "### Data"
    rows = []
    for entry in told:
        summary = entry["summary"]
        kept, left_out = summary["kept"], summary["left_out"]
        why = "; ".join(f"{count}: {reason}" for reason, count in left_out.items())
        rows.append((entry["name"], *(str(kept.get(split, 0)) for split in ("train", "held_out")), why or "none"))
    yield _table(("data", "rows to train on", "rows held out", "rows left out"), rows)


def _trees(released: Sequence[Part], lineage: Lineage) -> Iterator[str]:
    seen: set[str] = set()
    for part in released:
        entry = lineage.entry(part.artifact.digest)
        if entry:
            yield from _tree(entry, lineage, seen, "", "", "")


def _tree(entry: dict[str, Any], lineage: Lineage, seen: set[str], role: str, lead: str, indent: str) -> Iterator[str]:
    made = f"  {entry['stage']}: {entry['method']}" if "stage" in entry else ""
    again = "  (as above)" if entry["name"] in seen else ""
    yield f"{lead}{role}{entry['name']}{made}  {entry['kind']} {entry['digest'][:12]}{again}"
    if not again:
        seen.add(entry["name"])
        sources = lineage.sources(entry)
        for index, (parameter, source) in enumerate(sources):
            last = index + 1 == len(sources)
            yield from _tree(
                source,
                lineage,
                seen,
                f"{parameter}: ",
                indent + ("└── " if last else "├── "),
                indent + ("    " if last else "│   "),
            )


def _parameters(lineage: Lineage) -> Iterator[str]:
    made = [entry for entry in lineage.steps.values() if "stage" in entry]
    if made:
        yield "### Parameters\n\nEvery option of every step that has a value, defaults included."
    for entry in made:
        wired = {name: wires if len(wires) > 1 else wires[0] for name, wires in entry["inputs"].items() if wires}
        step = {entry["name"]: {entry["stage"]: entry["method"], **wired, "with": _set(entry["config"])}}
        text = yaml.safe_dump(step, sort_keys=False, allow_unicode=True, width=110)
        about = f"# method version {entry['version']}, seed {entry['seed']}"
        yield f"```yaml\n{about}\n{text}```"


def _recipe(lineage: Lineage) -> Iterator[str]:
    """The recipe as it was written, to be run again; absolute paths in it are of another machine, and shortened."""
    if lineage.text:
        fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", lineage.text)), default=0))
        given = "".join(f" --set {shlex.quote(setting)}" for setting in lineage.settings)
        yield "## Make it again\n\nWith this recipe, and the data that it names:"
        yield f"{fence}yaml\n{lineage.text.rstrip()}\n{fence}"
        yield f"```console\n$ tuneforge run {lineage.recipe}.yaml{given}\n```"


def _set(config: dict[str, Any]) -> dict[str, Any]:
    """The options that have a value: of what is not set, all of a block's columns perhaps, there is nothing to tell."""
    inner = {name: _set(value) if isinstance(value, dict) else value for name, value in config.items()}
    return {name: value for name, value in inner.items() if value not in (None, {})}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


def _short(count: float) -> str:
    for unit in ("", "K", "M", "G"):
        if count < 1000:
            return f"{count:.3g}{' ' if unit == '' else ''}{unit}".strip()
        count /= 1000
    return f"{count:.3g}T"
