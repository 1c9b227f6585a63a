"""The usual ranges of a training's options, with the reason and the source of each. Outside them a plan warns."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneforge import Facts, Finding, Known

from .sizes import parameters

if TYPE_CHECKING:
    from .options import Training

LARGE = 100_000_000
"""Parameters from which on the ranges count that depend on the size of a model."""

BYTES_PER_TOKEN = 4
"""About that many bytes of English text are a token, of vocabularies of 32,000 and more."""


@dataclass(frozen=True)
class Usual:
    """What an option usually is, what comes of more or less, and who says so."""

    option: str
    low: float
    high: float
    below: str
    above: str
    source: str
    any_size: bool = False
    """Whether it holds for models of fewer than LARGE parameters too."""

    def finding(self, value: float, low: float, high: float, of: str = "") -> Finding | None:
        """A warning, if a value is outside a range: the usual one, or another that a method or adapter declares."""
        if low <= value <= high:
            return None
        side, reason = ("below", self.below) if value < low else ("above", self.above)
        least, most = _shown(low), _shown(high)
        usual = f"at most {most}" if low <= 0 else f"{least} or more" if high == math.inf else f"{least} to {most}"
        name = "the number of rows," if self.option == "rows" else self.option.rpartition(".")[2]
        return Finding(
            f"{name} {_shown(value)} is {side} the usual ({usual}{of}): {reason}",
            f"See {self.source}",
            "warning",
            "" if self.option == "rows" else self.option,
        )


TABLE = (
    Usual(
        "learning_rate",
        1e-6,
        1e-4,  # 5e-4 for an adapter: Training.usual
        "the model will hardly change in so few epochs",
        "the model will forget what it knows, or the loss will not fall at all",
        "Touvron et al. 2023 (2e-5 for a full model), https://arxiv.org/abs/2307.09288; "
        "Dettmers et al. 2023 (1e-4 to 2e-4 for adapters), https://arxiv.org/abs/2305.14314",
    ),
    Usual(
        "epochs",
        1,
        5,
        "not every row will be seen",
        "rows that are repeated more often are learnt by heart, and help no further",
        "Muennighoff et al. 2023, https://arxiv.org/abs/2305.16264",
    ),
    Usual(
        "batch_size",
        8,
        128,
        "the gradient of so few rows is mostly noise, and the usual learning rates are too high for it",
        "there will be few steps, each hardly better than one of a smaller batch",
        "McCandlish et al. 2018, https://arxiv.org/abs/1812.06162",
    ),
    Usual(
        "rows",
        500,
        math.inf,
        "a model of this size learns so few by heart and does not generalize from them",
        "",
        "Zhou et al. 2023 (1,000 chosen rows were enough), https://arxiv.org/abs/2305.11206",
    ),
    Usual(
        "warmup",
        0.01,
        0.2,
        "Adam's first steps, whose statistics are of few batches, will be taken at the full rate",
        "much of the training will be over before the learning rate is what was chosen",
        "Liu et al. 2019, https://arxiv.org/abs/1908.03265",
    ),
    Usual(
        "weight_decay",
        0,
        0.1,
        "",
        "the weights will be drawn to zero, away from what they were pretrained to be",
        "Brown et al. 2020 (0.1 in pre-training), https://arxiv.org/abs/2005.14165",
        any_size=True,
    ),
    Usual(
        "adapter.r",
        4,
        256,
        "the adapter may have too little room for what there is to learn",
        "a larger rank costs memory, and with alpha / r as its scale gains nothing",
        "Hu et al. 2021, https://arxiv.org/abs/2106.09685; Kalajdzievski 2023, https://arxiv.org/abs/2312.03732",
    ),
    Usual(
        "adapter.alpha",
        1,  # times r
        math.inf,
        "the adapter's output is scaled down, and learns the more slowly",
        "",
        "Hu et al. 2021, https://arxiv.org/abs/2106.09685; Biderman et al. 2024 (alpha = 2 r), "
        "https://arxiv.org/abs/2405.09673",
        any_size=True,
    ),
    Usual(
        "adapter.dropout",
        0,
        0.1,
        "",
        "more than this slows an adapter down without regularizing it better",
        "Dettmers et al. 2023 (0.05 to 0.1), https://arxiv.org/abs/2305.14314",
        any_size=True,
    ),
)


def advise(options: Training, facts: Known) -> Iterator[Finding]:
    """Warnings on options that are outside their usual range, as far as the model and the data are known."""
    model = next(iter(facts.get("model", ())), None)
    data = next(iter(facts.get("data", ())), None)
    large = model is not None and parameters(model.model) >= LARGE
    is_adapter = options.adapter is not None or (model is not None and model.base is not None)
    values = _values(options, data)
    for usual in TABLE:
        if usual.option in values and (large or usual.any_size):
            low, high = _range(usual, options, is_adapter)
            of = "" if usual.option != "learning_rate" else " for an adapter" if is_adapter else " for a full model"
            finding = usual.finding(values[usual.option], low, high, of)
            if finding is not None:
                yield finding
    yield from _on_repeats(options, data, large)
    yield from _on_packing(options, model, data)
    if options.precision == "fp16":
        yield from _on_fp16()


def packing_gain(rows: int, packs: int) -> Finding | None:
    """A warning if packing has put hardly more than one row into each sequence."""
    if packs <= 0.8 * rows:
        return None
    problem = f"packing put {rows} rows into {packs} sequences: most are too long to share one"
    return Finding(problem, "Leave packing out, or raise max_length.", "warning", "packing")


def _values(options: Training, data: Facts | None) -> dict[str, float]:
    """The values that are compared with the table; what is not set, or not known, is not among them."""
    values: dict[str, float] = {
        "batch_size": options.batch_size,
        "warmup": options.warmup,
        "weight_decay": options.weight_decay,
    }
    if options.learning_rate is not None:
        values["learning_rate"] = options.learning_rate
    if options.steps is None:
        values["epochs"] = options.epochs
    if data is not None and data.rows is not None:
        values["rows"] = data.rows
    adapter = options.adapter
    rank, alpha, dropout = (getattr(adapter, name, None) for name in ("r", "alpha", "dropout"))
    if rank:
        values["adapter.r"] = rank
        if alpha is not None:
            values["adapter.alpha"] = alpha
    if dropout is not None:
        values["adapter.dropout"] = dropout
    return values


def _range(usual: Usual, options: Training, is_adapter: bool) -> tuple[float, float]:
    """The range that counts: an adapter's own, else the method's, else the table's."""
    kind = "adapter" if is_adapter else "full"
    name = usual.option.removeprefix("adapter.")
    own: Mapping[str, tuple[float, float]] = getattr(options.adapter, "usual", {})
    low, high = own.get(name, options.usual.get(f"{name} of {kind}", (usual.low, usual.high)))
    scale: float = 1
    if usual.option == "adapter.alpha" and options.adapter is not None:
        scale = options.adapter.r
    elif usual.option == "learning_rate":
        # A kind of adapter says so if it needs another rate than LoRA: soft prompts are learnt at many times of it.
        scale = getattr(options.adapter, "usual_rate", 1)
    return low * scale, high * scale


def _on_repeats(options: Training, data: Facts | None, large: bool) -> Iterator[Finding]:
    """Steps, too, are epochs, once it is known how many rows there are. Of packed sequences it is not."""
    if not (large and options.steps and data and data.rows) or getattr(options, "packing", False):
        return
    epochs = options.steps * options.rows_a_step / data.rows
    usual = next(usual for usual in TABLE if usual.option == "epochs")
    if epochs > usual.high:
        yield Finding(
            f"{options.steps} steps pass {epochs:.3g} times over {data.rows} rows (usual: {usual.low:g} to "
            f"{usual.high:g}): {usual.above}",
            f"See {usual.source}",
            "warning",
            "steps",
        )


def _on_packing(options: Training, model: Facts | None, data: Facts | None) -> Iterator[Finding]:
    if not getattr(options, "packing", False) or data is None or not data.row_bytes or model is None:
        return
    tokens, most = data.row_bytes / BYTES_PER_TOKEN, options.longest(model.model.config)
    if 2 * tokens > most:
        yield Finding(
            f"rows of about {tokens:.0f} tokens are packed into sequences of {most}: hardly two share one",
            "Leave packing out, or raise max_length: packing saves the padding of rows that are much shorter.",
            "warning",
            "packing",
        )


def _on_fp16() -> Iterator[Finding]:
    """Float16 holds nothing above 65,504 or below 6e-8, bfloat16 what float32 holds (Kalamkar et al. 2019)."""
    capability = _compute_capability()
    if capability is not None and capability < 8:
        return
    where = "on GPUs since Ampere" if capability is None else "on this GPU"
    yield Finding(
        f"fp16 has a narrow range, so that losses overflow; bf16 is as fast {where} and does not",
        "Leave precision out. See Kalamkar et al. 2019, https://arxiv.org/abs/1905.12322",
        "warning",
        "precision",
    )


def _compute_capability() -> float | None:
    """Of the first NVIDIA GPU, without torch; None where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    asked = [tool, "--query-gpu=compute_cap", "--format=csv,noheader"]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False).stdout.split()
    return float(told[0]) if told and told[0].replace(".", "").isdigit() else None


def _shown(value: float) -> str:
    """A number as people write it: 2e-5, 0.03, 16."""
    if value == 0 or value >= 0.01:
        return f"{value:g}"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
