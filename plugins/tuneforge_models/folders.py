"""A model's folder in the layout of transformers: which of its files make the model, and what is wrong with it."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import struct
from collections.abc import Callable, Collection, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tuneforge import Facts, Finding, Model, StepError
from tuneforge.artifacts import Tensor, read_json, read_template

CONFIG, INDEX, TOKENIZER = "config.json", "model.safetensors.index.json", "tokenizer.json"
TOKENIZER_CONFIG, TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
_TEMPLATES = ("chat_template.*", "additional_chat_templates/*.jinja")

TOKENIZER_FILES = (
    TOKENIZER,
    "tokenizer.model",
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    *_TEMPLATES,
)

# A README is no part: a base model whose page was reworded is still the same model, and nothing is trained anew.
SETTINGS = (CONFIG, "generation_config.json", INDEX, *TOKENIZER_FILES, "LICENSE*", "NOTICE*")
"""Patterns of every file that makes a model, but its weights."""

_WEIGHTS = re.compile(r"[^/\\\0]+\.safetensors")
_LONGEST_HEADER = 100_000_000  # bytes; safetensors reads no longer one
_SAVED = "Name a model as save_pretrained writes it."
_SAVE_TOKENIZER = "Save a fast tokenizer beside it: AutoTokenizer.from_pretrained(...).save_pretrained(...)."


def weights(folder: Path) -> list[str]:
    """The weight files that transformers would load: `model.safetensors`, else those that the index names."""
    if (folder / "model.safetensors").exists():
        return ["model.safetensors"]
    return sorted(name for name in _indexed(folder) if isinstance(name, str) and _WEIGHTS.fullmatch(name))


def _indexed(folder: Path) -> list[Any]:
    """What the index names, whatever that is; nothing of one that cannot be read, which `damaged` tells."""
    try:
        named = read_json(folder / INDEX).get("weight_map")
    except (ValueError, RecursionError):
        return []
    values = named.values() if isinstance(named, dict) else ()
    return list({str(value): value for value in values}.values())


def settings_of(folder: Path) -> list[str]:
    """Every file that makes the model, but its weights."""
    found = (file for pattern in SETTINGS for file in folder.glob(pattern) if file.is_file())
    settings = {file.relative_to(folder).as_posix() for file in found}
    if (folder / "model.safetensors").exists():
        settings.discard(INDEX)  # transformers does not look at it then
    return sorted(settings)


def problems(folder: Path) -> list[Finding]:
    """Why a folder is no model that can be used; nothing when it is one."""
    names = [file.relative_to(folder).as_posix() for at in ("*", f"*/{CONFIG}") for file in folder.glob(at)]
    return list(lacking(names, str(folder))) or list(damaged(folder)) or list(foreign(folder))


def lacking(names: Collection[str], what: str) -> Iterator[Finding]:
    """What a folder or repository with files of these names misses; `what` is how it is called in the message."""

    def like(*patterns: str) -> str:
        return ", ".join(name for name in sorted(names) if any(fnmatch(name, pattern) for pattern in patterns))

    if CONFIG not in names:
        deeper = like("*/config.json").removesuffix("/config.json")
        if deeper:
            fix = f"Did you mean its folder {deeper}?" if "," not in deeper else f"Name one of its folders: {deeper}."
        elif "adapter_config.json" in names:
            fix = "It is a PEFT adapter: load its base model, and give that step as model: here."
        elif like("*.gguf"):
            fix = "It holds GGUF files, which cannot be trained: load the model they were made of."
        else:
            fix = _SAVED
        yield Finding(f"{what} has no {CONFIG}", fix)
        return
    if "model.safetensors" not in names and INDEX not in names:
        pickles, others = like("*.bin", "*.pt", "*.pth", "*.ckpt"), like("*.safetensors")
        if others:
            yield Finding(
                f"{what} has neither model.safetensors nor {INDEX}, but {others}",
                "Transformers loads no other names: rename the file, or save the model anew.",
            )
        elif pickles:
            yield Finding(
                f"{what} has its weights as pickles alone ({pickles}), which can run code when they are opened",
                "Where you trust them, save them once as safetensors: "
                f"AutoModelForCausalLM.from_pretrained(...).save_pretrained(...), or name them: pickles: [{pickles}].",
            )
        else:
            yield Finding(f"{what} has no weights: model.safetensors is not there", _SAVED)
    if TOKENIZER not in names:
        slow = like("*.model", "vocab.json", "*.tiktoken")
        yield Finding(f"{what} has no {TOKENIZER}" + (f", only {slow}" if slow else ""), _SAVE_TOKENIZER)


def damaged(folder: Path) -> Iterator[Finding]:
    """What is wrong inside the files of a folder that lacks nothing."""
    broken = list(unsound(folder, CONFIG, INDEX, TOKENIZER_CONFIG))
    if broken:
        yield from broken
        return
    if "model_type" not in read_json(folder / CONFIG):
        yield Finding(f"{CONFIG} names no model_type", _SAVED)
    shards = weights(folder)
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        yield Finding(f"{INDEX} names {len(missing)} files that are not there: {', '.join(missing)}", "Get them again.")
    elif not shards:
        yield Finding(f"{INDEX} names no files", "Save the model anew.")
    for name in shards:
        if name in missing:
            continue
        try:
            read_header(folder / name)
        except ValueError as error:
            yield Finding(f"{name} {error}", "Get the file again.")


def unsound(folder: Path, *names: str) -> Iterator[Finding]:
    """Settings that are not JSON, and an index that names anything but files of weights beside it."""
    for name in names:
        try:
            read_json(folder / name)
        except (ValueError, RecursionError) as error:
            yield Finding(f"{name} is not JSON: {error}", "Get the file again.")
            return
    # Such a name would be read and written elsewhere than in the model's own folder.
    strange = [name for name in _indexed(folder) if not (isinstance(name, str) and _WEIGHTS.fullmatch(name))]
    if strange and INDEX in names:
        yield Finding(f"{INDEX} names {str(strange[0])[:80]!r}, which is no file of weights beside it", _SAVED)


def foreign(folder: Path) -> Iterator[Finding]:
    """Says so when a model needs code out of its own folder, which is never run; or when its settings are broken."""
    broken = list(unsound(folder, CONFIG, INDEX, TOKENIZER_CONFIG))
    if broken:
        yield from broken
        return
    config = read_json(folder / CONFIG)
    if "auto_map" in config and not _known(str(config.get("model_type", ""))):
        yield Finding(
            f"this model's code is not in transformers ({CONFIG}: model_type {config.get('model_type')}, auto_map), "
            "and code that comes with a model is never run",
            "Take a model of an architecture that transformers has.",
        )
    if "auto_map" in read_json(folder / TOKENIZER_CONFIG):
        yield Finding(
            f"its tokenizer has code of its own ({TOKENIZER_CONFIG}: auto_map), which is never run", _SAVE_TOKENIZER
        )


def unreadable(template: Path | None) -> Iterator[Finding]:
    """What is wrong with a chat template's file."""
    try:
        if template and not template.read_text(encoding="utf-8").strip():
            yield Finding(f"{template} is empty", "Write the chat template into it.", field="template")
    except (OSError, UnicodeDecodeError) as error:
        yield Finding(f"{template} cannot be read: {error}", "Name a file with a chat template.", field="template")


def facts(folder: Path, template: Path | None = None) -> Facts:
    """The facts of a sound folder, with `template` in place of its own; no tensors while its weights are not there."""
    files = [folder / name for name in weights(folder)]  # and no others that lie beside them
    headers = [read_header(file) for file in files] if all(file.exists() for file in files) else []
    tensors = {
        name: Tensor(entry["dtype"], tuple(entry["shape"])) for header in headers for name, entry in header.items()
    }
    own = template.read_text(encoding="utf-8") if template else read_template(folder)
    return Facts(Model, read_json(folder / CONFIG), tensors, folder, own)


def take_over(
    folder: Path, out: Path, bring: Callable[[Path, Path], object] = shutil.copyfile, template: Path | None = None
) -> None:
    """Brings every file that makes the model into `out`; `template` takes the place of every template it has."""
    for finding in problems(folder):
        raise StepError(finding.problem, finding.fix)
    for name in weights(folder):
        bring(folder / name, out / name)
    bring_settings(folder, out, bring, template)


def bring_settings(
    folder: Path, out: Path, bring: Callable[[Path, Path], object] = shutil.copyfile, template: Path | None = None
) -> None:
    """Brings every file that makes the model into `out`, but its weights."""
    for name in settings_of(folder):
        if template and any(fnmatch(name, pattern) for pattern in _TEMPLATES):
            continue
        target = out / name
        target.parent.mkdir(exist_ok=True)
        settings = read_json(folder / name) if template and name == TOKENIZER_CONFIG else {}
        if "chat_template" in settings:
            del settings["chat_template"]
            target.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        else:
            bring(folder / name, target)
    if template:
        shutil.copyfile(template, out / TEMPLATE)


def read_header(path: Path) -> dict[str, Any]:
    """The tensors that a safetensors file holds, from its header. ValueError tells how the file is damaged."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start == b"version ":
            raise ValueError("is only a pointer of Git LFS: run `git lfs pull` where it came from")
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > size - 8:
            raise ValueError(f"is cut short or no safetensors file ({size} bytes)")
        if length > _LONGEST_HEADER:
            raise ValueError(f"has a header of {length} bytes, more than safetensors reads")
        try:
            header: dict[str, Any] = json.loads(file.read(length))
            header.pop("__metadata__", None)
            whole = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise ValueError("has no header that safetensors could read") from None
    if size != whole:
        raise ValueError(f"is damaged: it has {size} bytes, and its header speaks of {whole}")
    return header


def _known(model_type: str) -> bool:
    """Whether transformers has this architecture; taken for granted where it is not installed to be asked.

    Looks for its subpackage: to import transformers' own list takes seconds, and torch.
    """
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        return True
    return (Path(spec.origin).parent / "models" / model_type.replace("-", "_") / "__init__.py").exists()
