"""The YAML block on top of a model card, as the Hugging Face Hub reads it.

Its keys: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from tuneforge import Adapter, Gguf, GgufAdapter, Model, QuantizedModel, Report
from tuneforge.kit.quantized import quant_method

from .carded import Carded
from .lineage import Lineage
from .parts import Part

_TASK = "text-generation"
_TUNED = ("train", "align")


@dataclass(frozen=True)
class Metadata:
    """What only a person can say of a model."""

    title: str
    license: str
    license_name: str
    license_link: str
    language: Sequence[str]
    base_model: str | None
    relation: str | None
    datasets: Sequence[str]
    intended_use: str

    @classmethod
    def of(cls, method: Carded, title: str) -> Metadata:
        """As a publication is configured."""
        return cls(
            title,
            method.license,
            method.license_name,
            method.license_link,
            method.language,
            method.base_model,
            method.base_model_relation,
            method.datasets,
            method.intended_use,
        )


def front_matter(metadata: Metadata, released: Sequence[Part], lineage: Lineage, reports: Sequence[Report]) -> str:
    """The YAML block. What is not known is left out: the Hub takes every key for a statement."""
    kinds = {type(part.artifact) for part in released}
    library = "transformers" if kinds & {Model, QuantizedModel} else "peft" if Adapter in kinds else "gguf"
    before = list(_before(released, lineage))
    from_hub = [repo for digest, (repo, _) in lineage.from_hub().items() if digest in {one["digest"] for one in before}]
    from_hub = list(dict.fromkeys(from_hub))
    base = metadata.base_model or (from_hub[0] if len(from_hub) == 1 else from_hub)
    values: dict[str, Any] = {
        "license": metadata.license,
        "license_name": metadata.license_name,
        "license_link": metadata.license_link,
        "language": list(metadata.language),
        "base_model": base,
        "base_model_relation": (metadata.relation or relation(released, lineage)) if base else None,
        "datasets": list(dict.fromkeys((*metadata.datasets, *lineage.data_from_hub(_learnt(before, lineage))))),
        "library_name": library,
        "pipeline_tag": _TASK,
        "tags": _tags(released, kinds, before),
        "model-index": model_index(metadata.title, released, lineage, reports),
    }
    known = {name: value for name, value in values.items() if value}
    return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True)}---"


def relation(released: Sequence[Part], lineage: Lineage) -> str | None:
    """What the released artifacts are of the models that they began with; None for such a model itself, and where the
    lineage does not tell.

    A quantized model that was tuned before is a tuned one: it is not its base in fewer bits. So is a merge of models
    that were tuned from a single base, for it is no merge of that. Of a model that is not from the Hub, nobody here
    knows whether it was tuned before.
    """
    before = list(_before(released, lineage))
    made = [entry for entry in before if "stage" in entry]
    if {type(part.artifact) for part in released} <= {Adapter, GgufAdapter}:
        return "adapter"
    begun = {entry["digest"] for entry in before if entry["kind"] == Model.kind and not lineage.models(entry)}
    tuned = any(entry.get("stage") in _TUNED or entry["kind"] == Adapter.kind for entry in before)
    if any(entry["stage"] == "merge" and len(lineage.models(entry)) > 1 for entry in made) and not (
        tuned and len(begun) == 1
    ):
        return "merge"
    if tuned:
        return "finetune"
    known = begun <= lineage.from_hub().keys()
    return "quantized" if known and any(entry["stage"] == "quantize" for entry in made) else None


def model_index(
    title: str, released: Sequence[Part], lineage: Lineage, reports: Sequence[Report]
) -> list[dict[str, Any]]:
    """The scores that reports on rows of data give the released artifacts, or the models that these are forms of.

    A metric's name tells of which model it is, where that is another one, as before quantizing, or one of several.
    """
    results = []
    for report in reports:
        told = Report.summary(report.path)
        if "rows" not in told:  # compares forms of a model with each other
            continue
        own = {part.artifact.digest for part in released}
        scored = {
            form: form in own
            for part in released
            for form in lineage.forms(part.artifact.digest)
            if form in told["scores"]
        }
        metrics = []
        for subject, is_released in scored.items():
            of = "" if is_released and len(scored) == 1 else f" of {lineage.name(subject)}"
            metrics += [
                {"type": metric, "value": value, "name": f"{metric.replace('_', ' ')}{of}"}
                for metric, value in told["scores"][subject].items()
                if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            ]
        if metrics:
            task = {"type": _TASK, "name": lineage.name(report.digest)}
            results.append({"task": task, "dataset": _dataset(report, told, lineage), "metrics": metrics})
    return [{"name": title, "results": results}] if results else []


def _dataset(report: Report, told: Mapping[str, Any], lineage: Lineage) -> dict[str, str]:
    """The data that a report was measured on: its name on the Hub, where it is from there, else that of its file."""
    entry = lineage.entry(report.digest) or {}
    data = next((source for _, source in lineage.sources(entry) if "kept" in source["summary"]), None)
    config = (data or {}).get("config", {})
    name = config.get("repo") or str(config.get("path") or "").partition("@")[0] or (data or {}).get("name", "data")
    repo = config.get("repo")
    kind = repo or re.sub(r"[^a-z0-9]+", "-", name.rpartition("/")[2].partition(".")[0].lower()).strip("-") or "data"
    dataset = {"name": name, "type": kind}
    dataset |= {"split": told["split"]} if "split" in told else {}
    return dataset | ({"revision": config["revision"]} if repo else {})


def _before(released: Sequence[Part], lineage: Lineage) -> Iterator[dict[str, Any]]:
    """Every step that the released artifacts are made of, each once."""
    seen: set[str] = set()
    todo = [entry for part in released if (entry := lineage.entry(part.artifact.digest))]
    while todo:
        entry = todo.pop(0)
        if entry["name"] not in seen:
            seen.add(entry["name"])
            yield entry
            todo += [source for _, source in lineage.sources(entry)]


def _learnt(before: Sequence[Mapping[str, Any]], lineage: Lineage) -> list[dict[str, Any]]:
    """What these steps were given, but for what quantizing was calibrated with: no model has learnt that."""
    return [source for entry in before if entry.get("stage") != "quantize" for _, source in lineage.sources(entry)]


def _tags(released: Sequence[Part], kinds: set[type], before: Sequence[Mapping[str, Any]]) -> list[str]:
    tags = ["tuneforge"]
    tags += ["gguf"] if kinds & {Gguf, GgufAdapter} else []
    tags += sorted({quant_method(part.facts.config) for part in released} - {""})
    tags += sorted({str(part.facts.config.get("peft_type", "")).lower() for part in released} - {""})
    tags += sorted({entry["method"] for entry in before if entry.get("stage") in _TUNED})
    tags += ["conversational"] if any(part.facts.template for part in released) else []
    return list(dict.fromkeys(tags))
