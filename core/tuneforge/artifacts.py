"""The kinds of artifact: what each folder must hold, and what is known of it without loading it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, ClassVar

GGUF_TEMPLATE = "tokenizer.chat_template"
_GGUF_UINT32, _GGUF_INT32, _GGUF_STRING = (struct.pack("<I", kind) for kind in (4, 5, 8))
_GGUF_METADATA = 64 << 20
"""Bytes at the beginning of a GGUF file within which its metadata lies: of a vocabulary of 256,000, it has 20 MB."""

_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}


@dataclass(frozen=True)
class Tensor:
    """A tensor as its safetensors header tells it: dtype such as `BF16`, and shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        size = _BYTES.get(self.dtype, 1)
        for length in self.shape:
            size *= length
        return size


@dataclass(frozen=True)
class Facts:
    """What is known of an artifact before, or without, loading it. What is not known is empty or None.

    `config` is the model's config.json or the adapter's adapter_config.json, and of a GGUF file the numbers and words
    that `read_gguf` reads; `tensors` come from safetensors headers;
    `tokenizer` is a folder with the tokenizer's files; `template` the chat template; `base` what an adapter sits on.
    Of data, `rows` is how many there are to train on, `row_bytes` the length of one as JSON: a mean, perhaps estimated.
    `digest` is that of the artifact, once it is there.
    """

    kind: type[Artifact]
    config: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    tokenizer: Path | None = None
    template: str | None = None
    base: Facts | None = None
    rows: int | None = None
    row_bytes: float | None = None
    digest: str | None = None

    @property
    def model(self) -> Facts:
        """The full model: this one, or the one an adapter sits on."""
        return self.base.model if self.base is not None else self


@dataclass(frozen=True)
class Artifact:
    """A finished folder of a known kind, named by the digest of its content. Read it, never write to it."""

    kind: ClassVar[str]

    path: Path
    digest: str
    base: Artifact | None = None

    @classmethod
    def missing(cls, path: Path) -> Iterator[str]:
        """What a folder lacks to be of this kind."""
        yield from ()

    @classmethod
    def facts(cls, path: Path, base: Facts | None = None) -> Facts:
        """The facts of a folder of this kind, from JSON and safetensors headers."""
        return Facts(cls, base=base)

    @classmethod
    def summary(cls, path: Path) -> dict[str, Any]:
        """What a model card or a report tells of such a folder: row counts, scores. A function of its content."""
        return {}


class Model(Artifact):
    """A causal language model with its tokenizer and chat template, in the layout of transformers."""

    kind = "model"

    @classmethod
    def missing(cls, path: Path) -> Iterator[str]:
        yield from _without(path, "config.json", "*.safetensors", "tokenizer.json")

    @classmethod
    def facts(cls, path: Path, base: Facts | None = None) -> Facts:
        return Facts(cls, read_json(path / "config.json"), read_tensors(path), path, read_template(path), base)


class Adapter(Artifact):
    """A PEFT adapter; `base` is the full model it was trained on."""

    kind = "adapter"

    @classmethod
    def missing(cls, path: Path) -> Iterator[str]:
        yield from _without(path, "adapter_config.json", "adapter_model.safetensors")

    @classmethod
    def facts(cls, path: Path, base: Facts | None = None) -> Facts:
        template = read_template(path) or (base.template if base else None)
        tokenizer = path if (path / "tokenizer.json").exists() else base.tokenizer if base else None
        return Facts(cls, read_json(path / "adapter_config.json"), read_tensors(path), tokenizer, template, base)


class RewardModel(Artifact):
    """A model that scores conversations: one label for a whole sequence, in the layout of transformers.

    No `Model`, since nothing that generates can use it.
    """

    kind = "reward-model"

    @classmethod
    def missing(cls, path: Path) -> Iterator[str]:
        yield from Model.missing(path)

    @classmethod
    def facts(cls, path: Path, base: Facts | None = None) -> Facts:
        return replace(Model.facts(path, base), kind=cls)


class RewardAdapter(Artifact):
    """A PEFT adapter, score head included, that makes a reward model of `base`, a causal language model."""

    kind = "reward-adapter"

    @classmethod
    def missing(cls, path: Path) -> Iterator[str]:
        yield from Adapter.missing(path)

    @classmethod
    def facts(cls, path: Path, base: Facts | None = None) -> Facts:
        return replace(Adapter.facts(path, base), kind=cls)


class _Data(Artifact):
    @classmethod
    def facts(cls, path: Path, base: Facts | None = None) -> Facts:
        known = cls.summary(path)
        rows, size = (known.get(what, {}).get("train") for what in ("kept", "bytes"))
        return Facts(cls, base=base, rows=rows, row_bytes=size / rows if rows and size is not None else None)

    @classmethod
    def missing(cls, path: Path) -> Iterator[str]:
        yield from _without(path, "train-*.parquet", "data.json")

    @classmethod
    def summary(cls, path: Path) -> dict[str, Any]:
        return read_json(path / "data.json")


class ChatData(_Data):
    """Conversations: `train-*.parquet` and `held_out-*.parquet`, read with `tuneforge.kit.rows`."""

    kind = "chat-data"


class PreferenceData(_Data):
    """Prompts, each with a chosen and a rejected answer: `train-*.parquet` and `held_out-*.parquet`."""

    kind = "preference-data"


class PromptData(_Data):
    """Prompts that a model answers by itself while it is trained: `train-*.parquet` and `held_out-*.parquet` with the
    columns prompt, messages up to an answer; reference, the answer that a reward may compare with, or null; and tools."""

    kind = "prompt-data"


class TextData(_Data):
    """Texts as they are, without a chat template: `train-*.parquet` and `held_out-*.parquet` with the columns prompt,
    null for a document, and completion: the document, or what follows the prompt."""

    kind = "text-data"


class QuantizedModel(Artifact):
    """A causal language model in fewer bits, in the layout of transformers: `quantization_config` of its config.json
    tells which. No `Model`, since it can neither be trained nor merged nor quantized again."""

    kind = "quantized-model"

    @classmethod
    def missing(cls, path: Path) -> Iterator[str]:
        yield from Model.missing(path)
        if not read_json(path / "config.json").get("quantization_config"):
            yield "quantization_config in config.json"

    @classmethod
    def facts(cls, path: Path, base: Facts | None = None) -> Facts:
        return replace(Model.facts(path, base), kind=cls)


class Gguf(Artifact):
    """One model in llama.cpp's GGUF format."""

    kind = "gguf"

    @classmethod
    def missing(cls, path: Path) -> Iterator[str]:
        yield from _without(path, "*.gguf")

    @classmethod
    def facts(cls, path: Path, base: Facts | None = None) -> Facts:
        file = min(path.glob("*.gguf"), default=None)  # of a model in several files, the first has the metadata
        known = read_gguf(file, "general.architecture", "general.file_type", GGUF_TEMPLATE) if file else {}
        template = known.pop(GGUF_TEMPLATE, None)
        return Facts(cls, known, template=str(template) if template is not None else None, base=base)


class GgufAdapter(Artifact):
    """An adapter in llama.cpp's GGUF format; `base` is the full model that it sits on."""

    kind = "gguf-adapter"

    @classmethod
    def missing(cls, path: Path) -> Iterator[str]:
        yield from _without(path, "*.gguf")


class Files(Artifact):
    """Files of a model repository that are no other kind of artifact: a model without its tokenizer, or a card."""

    kind = "files"


class Dataset(Artifact):
    """Files of a dataset repository that no step has made, in any layout that the datasets library reads."""

    kind = "dataset"


class Report(Artifact):
    """What an evaluation found: report.json with `subjects` (digests), `passed` and `scores` (by subject, by name)."""

    kind = "report"

    @classmethod
    def missing(cls, path: Path) -> Iterator[str]:
        yield from _without(path, "report.json")

    @classmethod
    def summary(cls, path: Path) -> dict[str, Any]:
        return read_json(path / "report.json")


class Release(Artifact):
    """The receipt of a publication: receipt.json names what was published by content."""

    kind = "release"

    @classmethod
    def missing(cls, path: Path) -> Iterator[str]:
        yield from _without(path, "receipt.json")


def context_length(config: Mapping[str, Any]) -> int | None:
    """The longest sequence a model was made for, in tokens, by its config.json; None if that does not say."""
    config = config.get("text_config", config)
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"):
        if isinstance(config.get(name), int):
            return int(config[name])
    return None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty when the file is not there."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Name, dtype and shape of every tensor of a folder's safetensors files, from their headers alone."""
    tensors: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError(f"{path.name}: its header is cut short or is not one of safetensors")
            header = json.loads(file.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                tensors[name] = Tensor(entry["dtype"], tuple(entry["shape"]))
    return tensors


def read_gguf(file: Path, *keys: str) -> dict[str, Any]:
    """Those keys of a GGUF file's metadata that it has and whose values are 32-bit integers or texts.

    To read all metadata, as the gguf package does, takes seconds for a vocabulary: keys are looked for by their bytes,
    which come after their length, at the beginning of the file. Raises ValueError for a file that is no GGUF file.
    """
    found: dict[str, Any] = {}
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise ValueError(f"{file.name}: it is no GGUF file")
        with mmap(opened.fileno(), 0, access=ACCESS_READ) as content:
            for key in keys:
                named = struct.pack("<Q", len(key)) + key.encode()
                at = content.find(named, 0, _GGUF_METADATA) + len(named)
                kind = content[at : at + 4] if at >= len(named) else b""
                if kind in (_GGUF_UINT32, _GGUF_INT32):
                    (found[key],) = struct.unpack_from("<I" if kind == _GGUF_UINT32 else "<i", content, at + 4)
                elif kind == _GGUF_STRING:
                    (length,) = struct.unpack_from("<Q", content, at + 4)
                    found[key] = content[at + 12 : at + 12 + length].decode("utf-8")
    return found


def read_template(folder: Path) -> str | None:
    """The chat template of a tokenizer folder: chat_template.jinja, else the one in tokenizer_config.json."""
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    template = read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):  # several named ones: transformers takes the one called default
        template = next((entry["template"] for entry in template if entry.get("name") == "default"), None)
    return template if isinstance(template, str) else None


def _without(path: Path, *patterns: str) -> Iterator[str]:
    for pattern in patterns:
        if not any(path.glob(pattern)):
            yield pattern
