"""What belongs to the weights of a merged model: its settings, tokenizer, chat template and stop tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tuneforge.artifacts import read_json, read_template
from tuneforge.kit.folders import write_json
from tuneforge.kit.models import save_tokenizer

from .layout import SPECIAL, merged_config
from .vocabulary import tokens


def describe(
    out: Path,
    root: Path,
    giver: Path,
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    union: bool,
    dtype: str | None,
    layers: Sequence[tuple[Mapping[str, Any], int]] | None,
) -> None:
    """Writes them into `out`: the settings of the model in `root`, and what concerns tokens from that in `giver`.

    `tokenizer` is the one that embeddings were aligned to, if they were; of a `union` it is written, too. `dtype` and
    `layers` are as `merged_config` has them.
    """
    of_giver, generation = read_json(giver / "config.json"), read_json(giver / "generation_config.json")
    rows = None
    if tokenizer is not None:
        vocabulary = tokenizer.get_vocab()
        rows = len(vocabulary)
        if union:
            names = {number: token for token, number in tokens(giver).items()}
            of_giver, generation = (_renumbered(each, names, vocabulary) for each in (of_giver, generation))
            tokenizer.chat_template = read_template(giver)
    config = merged_config(read_json(root / "config.json"), of_giver, dtype=dtype, rows=rows, layers=layers)
    write_json(out / "config.json", config)
    if generation:
        write_json(out / "generation_config.json", generation)
    save_tokenizer(tokenizer if tokenizer is not None and union else giver, out)


def _renumbered(settings: dict[str, Any], names: Mapping[int, str], ids: Mapping[str, int]) -> dict[str, Any]:
    """Settings whose special tokens have the numbers they have in another vocabulary; a number of no token, such as
    the -1 that stands for none, is dropped."""

    def other(value: Any) -> Any:
        if isinstance(value, list):
            return [ids[names[each]] for each in value if each in names]
        return ids[names[value]] if value in names else None

    return settings | {name: other(settings[name]) for name in SPECIAL if name in settings}
