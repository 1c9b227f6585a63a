"""The model card: README.md with the metadata that the Hugging Face Hub reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import yaml

from tuneforge import Adapter, Gguf, GgufAdapter, Model, QuantizedModel, Report
from tuneforge.kit.quantized import quant_method

from .lineage import DATA, Lineage
from .parts import Part


@dataclass(frozen=True)
class Metadata:
    """What only a person can say of a model."""

    title: str
    license: str
    language: Sequence[str]
    base_model: str | None
    datasets: Sequence[str]


def card(
    metadata: Metadata, parts: Sequence[Part], lineage: Lineage, reports: Sequence[Report], use: Sequence[str]
) -> str:
    """The whole card, in Markdown. `use` tells how to run what is there."""
    released = [part for part in parts if part.released]
    sections = [
        front_matter(metadata, released, lineage),
        f"# {metadata.title}",
        f"Made with tuneforge by the recipe `{lineage.recipe}`.",
        _contents(parts, lineage),
        "## Use",
        *use,
        *_scores(reports, lineage),
        "## How it was made",
        "\n".join(["```text", *_trees(released, lineage), "```"]),
        *_data(lineage),
        *_parameters(lineage),
        "## Check the files\n\n```sh\nsha256sum -c SHA256SUMS\n```",
    ]
    return "\n\n".join(sections) + "\n"


def front_matter(metadata: Metadata, released: Sequence[Part], lineage: Lineage) -> str:
    """The YAML block on top. What is not known is left out: the Hub takes every key for a statement."""
    kinds = {type(part.artifact) for part in released}
    library = "transformers" if kinds & {Model, QuantizedModel} else "peft" if Adapter in kinds else "gguf"
    tags = ["tuneforge"]
    tags += ["gguf"] if kinds & {Gguf, GgufAdapter} else []
    tags += sorted({quant_method(part.facts.config) for part in released} - {""})
    tags += ["conversational"] if any(part.facts.template for part in released) else []
    values: dict[str, Any] = {
        "license": metadata.license,
        "language": list(metadata.language),
        "base_model": metadata.base_model or [repo for repo, _ in lineage.from_hub().values()],
        "datasets": list(metadata.datasets),
        "library_name": library,
        "pipeline_tag": "text-generation",
        "tags": tags,
    }
    known = {name: value for name, value in values.items() if value}
    return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True)}---"


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
    if reports:
        yield "## Scores"
    for report in reports:
        told = Report.summary(report.path)
        scores: dict[str, dict[str, Any]] = told["scores"]
        metrics = list(dict.fromkeys(metric for subject in scores.values() for metric in subject))
        rows = [
            (lineage.name(subject), *(_figure(scores[subject].get(metric)) for metric in metrics))
            for subject in told["subjects"]
        ]
        split = f" of the {told['split'].replace('_', '-')} part" if "split" in told else ""
        on = f", on {told['rows']} rows{split}" if "rows" in told else ""
        entry = lineage.entry(report.digest)
        by = f" ({_how(entry)})" if entry and "stage" in entry else ""
        yield f"**{lineage.name(report.digest)}**{by}{on}:"
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
