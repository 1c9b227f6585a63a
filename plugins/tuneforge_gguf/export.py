"""Writing a model as a GGUF file with llama.cpp's own converter."""

from __future__ import annotations

import importlib
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from tuneforge import StepError
from tuneforge.kit.memory import give_back, without_compiler

from .support import architecture_supported, pre_tokenizer, tokenizer_support

Score = Callable[[Any, int], float]
"""Of a vocabulary of the converter's and the number of a token."""

# What the converter would otherwise guess from the name of the model's folder.
_GUESSED = ("organization", "basename", "finetune", "version", "size_label")


def export(
    model: Path, out: Path, type: str, converter: Path, *, name: str = "model", log: Callable[[str], None]
) -> Path:
    """Writes a transformers model as `model-<type>.gguf` into the folder `out` and returns the file's path.

    `type` is `f32`, `f16`, `bf16` or `q8_0`; `converter` the folder from `fetch_converter`; `name` goes into the file,
    which is a function of the model folder's content and these arguments. Raises StepError, with nothing left in `out`,
    when llama.cpp has no such architecture or cannot split text as the tokenizer does.
    """
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    architecture = (config.get("architectures") or ["?"])[0]
    if not architecture_supported(architecture, converter):
        raise StepError(f"llama.cpp's converter does not know the architecture {architecture}")
    splitting, score = _told_of_tokens(_tokenizer(model))
    give_back()  # what tokenizers are built of: the converter builds its own
    file = out / f"model-{type}.gguf"
    try:
        # Within `out`, so that a process that is killed leaves nothing elsewhere.
        with tempfile.TemporaryDirectory(dir=out) as scratch, reported(log):
            metadata = Path(scratch, "metadata.json")
            metadata.write_text(json.dumps({f"general.{key}": None for key in _GUESSED}))
            arguments = ["--outtype", type, "--outfile", str(file), "--model-name", name, "--metadata", str(metadata)]
            _convert(converter, splitting, score, [str(model), *arguments])
    except BaseException as error:
        file.unlink(missing_ok=True)
        if isinstance(error, NotImplementedError) and "pre-tokenizer" in str(error):
            raise StepError(
                "llama.cpp's converter does not know how the model's tokenizer splits text",
                "Train the tokenizer as byte-level BPE with GPT-2's, Llama 3's or Qwen2's pattern and no normalizer.",
            ) from error
        if isinstance(error, Exception) and not isinstance(error, StepError):
            raise StepError(f"llama.cpp's converter failed: {error.__class__.__name__}: {error}") from error
        raise
    return file


def _tokenizer(model: Path) -> dict[str, Any]:
    """The tokenizer as it would be in tokenizer.json. Raises StepError if llama.cpp cannot read its like."""
    # Not the file: transformers may build something else from it, and that is what the model was trained with.
    with without_compiler():
        tokenizer = AutoTokenizer.from_pretrained(model)
    if not tokenizer.is_fast:
        raise StepError(f"the tokenizer, a {type(tokenizer).__name__}, has no form in tokenizer.json")
    described: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    problem = tokenizer_support(described, sentencepiece=(model / "tokenizer.model").exists())
    if problem:
        raise StepError(problem)
    return described


def _convert(converter: Path, splitting: str | None, score: Score | None, arguments: list[str]) -> None:
    """Runs convert_hf_to_gguf.py in this process, which has already paid for importing torch and transformers."""
    with at_home(converter, "convert_hf_to_gguf", arguments):
        script = importlib.import_module("convert_hf_to_gguf")
        if splitting is not None:
            # The converter's own way to know it is a hash of known tokenizers' answers.
            importlib.import_module("conversion").TextModel.get_vocab_base_pre = lambda *_: splitting
        if score is not None:
            importlib.import_module("gguf").LlamaHfVocab.get_token_score = score
        script.main()


@contextmanager
def at_home(converter: Path, script: str, arguments: list[str]) -> Iterator[None]:
    """The modules and arguments that a script of the converter's expects to find. Raises StepError when it gives up."""
    path, argv = list(sys.path), sys.argv
    with _without("gguf", "conversion", script):
        sys.path.insert(0, str(converter))
        sys.argv = [f"{script}.py", *arguments]
        try:
            yield
        except SystemExit as error:
            raise StepError("llama.cpp's converter refused the model; the step's log tells why") from error
        finally:
            sys.path[:], sys.argv = path, argv


def _told_of_tokens(tokenizer: dict[str, Any]) -> tuple[str | None, Score | None]:
    """What the converter does not find out itself: how text is split, or, of SentencePiece, what tokens score."""
    splitting = pre_tokenizer(tokenizer)
    return (splitting, None) if splitting else (None, _score(tokenizer))


def _score(tokenizer: dict[str, Any]) -> Score:
    """Scores by which llama.cpp merges SentencePiece tokens in the order of the tokenizer's merges.

    Without tokenizer.model the converter gives all tokens one score, and llama.cpp would merge in any order.
    """
    merges = tokenizer["model"].get("merges", ())
    # The lowest rank of the merges that make a token is the one that counts.
    ranks = {"".join(pair): rank for rank, pair in reversed(list(enumerate(merges)))}
    return lambda vocab, index: -float(ranks.get(vocab.tokenizer.convert_ids_to_tokens(index), len(merges)))


@contextmanager
def _without(*packages: str) -> Iterator[None]:
    """Keeps packages out of sight, and puts them back: the converter brings its own edition of gguf."""

    def take() -> dict[str, Any]:
        return {key: sys.modules.pop(key) for key in list(sys.modules) if key.partition(".")[0] in packages}

    kept = take()
    try:
        yield
    finally:
        take()
        sys.modules.update(kept)


@contextmanager
def reported(log: Callable[[str], None]) -> Iterator[None]:
    """Sends what the converter tells to `log`."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            log(record.getMessage())

    handler, root = Handler(), logging.getLogger()
    loggers = [logging.getLogger(each) for each in ("hf-to-gguf", "lora-to-gguf", "gguf")]
    # A root with a handler is one that the converter's basicConfig leaves alone.
    root.addHandler(silent := logging.NullHandler())
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        yield
    finally:
        root.removeHandler(silent)
        for logger in loggers:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
            logger.propagate = True
