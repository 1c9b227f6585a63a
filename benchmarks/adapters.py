"""What each type of adapter costs on the built-in model: writes docs/adapters.md."""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from tuneforge_trl.adapters import TYPES
from tuneforge_trl.adapters.base import AdapterType

_ROOT = Path(__file__).parents[1]
_PAGE = _ROOT / "docs" / "adapters.md"
_STEPS, _ROWS, _WARM, _ROUNDS = 8, 8, 2, 2
_FULL = "none"

_HEAD = """# Adapters

Written by `python -m benchmarks adapters`: to change this page, change the types in `plugins/tuneforge_trl/adapters`.

An `adapter:` block trains a small addition to a model in place of the whole model, in `train` and in `align`. What it
may hold is told by `tuneforge plugins train.sft`, and on the page of [methods](methods.md).

```yaml
sft: {train: sft, model: base, data: chats, with: {adapter: {type: dora, r: 32}}}
```

| `type` | what it is | paper | merges | packing | checkpointing | on a quantized base | usual learning rate |
|---|---|---|---|---|---|---|---|
"""

_MEASURED = """
What merges becomes a model that needs no PEFT (`merge: adapter`); what does not stays an adapter beside its base.
The usual learning rate is what `sft` takes where none is set; `dpo` takes a twentieth of it.

## What each costs

On the built-in model of {total:,} parameters, each type with its defaults, {steps} steps of {rows} rows on one thread
of a CPU. Time is processor time of a step relative to full training, from the least of {rounds} rounds' medians; memory
is the peak of a training above what was there before the model was loaded. On a model this small most of the memory and
time is the text's, and a default rank is a large share of its width: with larger models adapters are relatively
smaller, and what full training needs beside them (gradients and two moments for every weight) grows with the model.

| `type` | trained | share | adapter on disk | peak memory | time per step |
|---|---|---|---|---|---|
"""


def main() -> None:
    """Trains each type in a process of its own, in turns, and writes the page."""
    import tuneforge_trl.sft_engine  # noqa: F401 - once, before the processes are forked

    measured: dict[str, list[dict[str, float]]] = {}
    kinds = [_FULL, *(kind for kind, adapter in TYPES.items() if all(map(_installed, adapter.needs)))]
    for _ in range(_ROUNDS):
        for kind in kinds:
            with multiprocessing.get_context("fork").Pool(1) as process:
                measured.setdefault(kind, []).append(process.apply(measure, (kind,)))
            print(kind, measured[kind][-1], flush=True)
    _PAGE.write_text(page(measured), encoding="utf-8")


def declared() -> str:
    """The part of the page that the types' own attributes tell."""
    return _HEAD + "".join(f"| {' | '.join(_declared(kind, adapter))} |\n" for kind, adapter in TYPES.items())


def page(measured: dict[str, list[dict[str, float]]]) -> str:
    """docs/adapters.md, with what was measured of each type in each round."""
    text = declared()
    whole = {name: min(entry[name] for entry in measured[_FULL]) for name in measured[_FULL][0]}
    text += _MEASURED.format(total=int(whole["total"]), steps=_STEPS, rows=_ROWS, rounds=_ROUNDS)
    for kind in (_FULL, *TYPES):
        if kind not in measured:
            text += f"| `{kind}` | not measured: it needs {' and '.join(TYPES[kind].needs)} | | | | |\n"
            continue
        least = {name: min(entry[name] for entry in measured[kind]) for name in measured[kind][0]}
        cells = (
            "none: the whole model" if kind == _FULL else f"`{kind}`",
            f"{int(least['trainable']):,}",
            f"{least['trainable'] / whole['total']:.2%}",
            f"{least['size'] / 1e6:.2f} MB",
            f"{least['memory'] / 1e6:.0f} MB",
            f"{least['seconds'] / whole['seconds']:.2f}",
        )
        text += f"| {' | '.join(cells)} |\n"
    return text


def _declared(kind: str, adapter: type[AdapterType]) -> tuple[str, ...]:
    authors, link = adapter.paper
    able = (adapter.mergeable, adapter.packable, adapter.checkpointable)
    base = "makes one" if adapter.quantizes else "yes" if adapter.on_quantized else "no"
    yes = ("yes" if is_able else "no" for is_able in able)
    return (f"`{kind}`", adapter.title, f"[{authors}]({link})", *yes, base, f"{2e-4 * adapter.usual_rate:.0e}")


def _installed(need: str) -> bool:
    return find_spec(Requirement(need).name) is not None


def measure(kind: str) -> dict[str, float]:
    """Trains one type, in this process."""
    from tuneforge import ChatData, Model, Step
    from tuneforge.kit.rows import write_rows
    from tuneforge_trl.sft import Sft

    times: list[float] = []

    def send(event: dict[str, Any]) -> None:
        if event["event"] == "progress":
            times.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        for name in ("out", "scratch", "chats"):
            (Path(folder) / name).mkdir()
        with (_ROOT / "recipes" / "data" / "orders-chat.jsonl").open(encoding="utf-8") as file:
            rows = [{**json.loads(line), "tools": None} for line, _ in zip(file, range(_ROWS * _STEPS), strict=False)]
        write_rows(Path(folder) / "chats", "train", rows)
        write_rows(Path(folder) / "chats", "held_out", [])
        (Path(folder) / "chats" / "data.json").write_text("{}")
        base = Model(_ROOT / "plugins" / "tuneforge_models" / "builtin" / "tiny", "b" * 64)
        step = Step("fit", Path(folder) / "out", Path(folder) / "scratch", seed=1, threads=1, send=send)
        method = Sft(
            steps=_STEPS, batch_size=_ROWS, micro_batch_size=_ROWS, adapter=None if kind == _FULL else {"type": kind}
        )
        chats = ChatData(Path(folder) / "chats", "c" * 64)
        method.prepare(base, chats, step)
        before = _resident()
        method.run(base, chats, step)
        weights = Path(folder) / "out" / ("model.safetensors" if kind == _FULL else "adapter_model.safetensors")
        taken = [after - start for start, after in zip(times[_WARM:], times[_WARM + 1 :], strict=False)]
        return {
            "trainable": step.figures["trainable_parameters"],
            "total": step.figures["total_parameters"],
            "size": weights.stat().st_size,
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before,
            "seconds": statistics.median(taken),
        }


def _resident() -> int:
    """Bytes of memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()
