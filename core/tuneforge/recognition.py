"""What kind of artifact a folder is that no step has made: by the files that each kind must hold, and what they say."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tuneforge_registry import Registry, RegistryError

from .artifacts import (
    Adapter,
    Artifact,
    ChatData,
    Dataset,
    Files,
    Gguf,
    GgufAdapter,
    Model,
    PreferenceData,
    PromptData,
    QuantizedModel,
    Release,
    Report,
    RewardAdapter,
    RewardModel,
    TextData,
    read_gguf,
    read_json,
)

DATA = (ChatData, PreferenceData, PromptData, TextData, Dataset)
_FOOTER = 64 << 10
"""Bytes at the end of a Parquet file within which its columns are named."""
_CONFIGS = ("config.json", "adapter_config.json")
_CONFIG = 4 << 20
"""Bytes of one of these, which are read as a whole."""


def recognised(folder: Path, kinds: Mapping[str, type[Artifact]], dataset: bool, before: str | None) -> type[Artifact]:
    """The kind of a folder; that of the version `before`, if it still is of that kind.

    What is no other kind is `Dataset` if it is a dataset's, and `Files` if not. Raises RegistryError for broken JSON.
    """
    with _readable(folder):
        kept = kinds.get(before or "", Files)
        if not issubclass(kept, Files | Dataset) and not any(kept.missing(folder)):
            return kept
        known = _OF_DATA if dataset else _OF_MODELS
        fitting = (kind for kind, fits in known if not any(kind.missing(folder)) and fits(folder))
        return next(fitting, Dataset if dataset else Files)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """RegistryError for files that cannot be what their names say; they come from anywhere."""
    for name in _CONFIGS:
        if (folder / name).exists() and (folder / name).stat().st_size > _CONFIG:
            raise RegistryError(f"{name} has more than {_CONFIG} bytes", "keep data out of it")
    try:
        yield
    except (ValueError, AttributeError, TypeError, LookupError, RecursionError, struct.error) as error:
        raise RegistryError(f"a file of the folder cannot be read: {error}", "mend the file") from None


def base_of(folder: Path, kind: type[Artifact], registry: Registry) -> str | None:
    """The digest of what an adapter sits on, where it names an artifact of the registry. RegistryError as above."""
    if not issubclass(kind, Adapter | RewardAdapter):
        return None
    with _readable(folder):
        config = read_json(folder / "adapter_config.json")
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(name, str):
        return None
    ref = name.removeprefix("sha256:")
    if ref == name:  # a repository, whose id has two parts for clients that ask for them
        ref = name.lower().removeprefix("_/") + (f"@{revision}" if isinstance(revision, str) else "")
    try:
        return registry.resolve(ref)
    except RegistryError:  # a model of elsewhere
        return None


def _labels(folder: Path) -> bool:
    names = read_json(folder / "config.json").get("architectures") or [""]
    return str(names[0]).endswith("ForSequenceClassification")


def _scores(folder: Path) -> bool:
    return read_json(folder / "adapter_config.json").get("task_type") == "SEQ_CLS"


def _gguf_adapter(folder: Path) -> bool:
    return any(read_gguf(file, "general.type").get("general.type") == "adapter" for file in folder.glob("*.gguf"))


def _has(*columns: str) -> Callable[[Path], bool]:
    def fits(folder: Path) -> bool:
        with min(folder.glob("train-*.parquet")).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _FOOTER))
            footer = file.read()
        return all(column.encode() in footer for column in columns)

    return fits


def _always(folder: Path) -> bool:
    return True


_Fitting = tuple[tuple[type[Artifact], Callable[[Path], bool]], ...]
_OF_MODELS: _Fitting = (
    (RewardAdapter, _scores),
    (Adapter, _always),
    (QuantizedModel, _always),
    (RewardModel, _labels),
    (Model, _always),
    (GgufAdapter, _gguf_adapter),
    (Gguf, _always),
    (Report, _always),
    (Release, _always),
)
"""Each kind with what tells it from others that hold the same files; the first that fits is it."""
_OF_DATA: _Fitting = (
    (PreferenceData, _has("chosen", "rejected")),
    (ChatData, _has("messages")),
    (PromptData, _has("prompt", "reference")),
    (TextData, _has("completion")),
)
