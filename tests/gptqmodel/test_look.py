"""What is looked at when a library has written a model: nothing that is not quantized passes for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config

from tests.gguf.small_models import byte_level, write_model
from tuneforge import ChatData, Model, QuantizedModel, Step, StepError, TextData
from tuneforge.kit.agreement import agreement
from tuneforge.kit.rows import write_rows
from tuneforge_gptqmodel import engine
from tuneforge_gptqmodel.awq import Awq
from tuneforge_gptqmodel.calibration import calibration_rows, own_rows
from tuneforge_gptqmodel.gptq import Gptq
from tuneforge_gptqmodel.layers import Rounding, shapes
from tuneforge_gptqmodel.legacy import quantized
from tuneforge_gptqmodel.numbers import unpacked

pytestmark = pytest.mark.slow

TEXTS = [f"Order {number}: {number} boxes of apples for Mrs Jansen in Utrecht." for number in range(40)]
_SLOTS = {"gptq": (0, 1, 2, 3, 4, 5, 6, 7), "awq": (0, 2, 4, 6, 1, 3, 5, 7)}
"""Which of eight numbers stands in a word first, second, ..., from its lowest bits, as the formats have it."""


def words(numbers: torch.Tensor, slots: tuple[int, ...]) -> torch.Tensor:
    """Rows of 4-bit numbers as rows of 32-bit words."""
    eights = numbers.reshape(len(numbers), -1, 8)[..., list(slots)].long()
    summed = (eights << torch.arange(0, 32, 4)).sum(-1)
    return torch.where(summed >= 2**31, summed - 2**32, summed).to(torch.int32)


def pack(weight: torch.Tensor, method: str, size: int) -> dict[str, torch.Tensor]:
    """A weight rounded to the nearest of 16 numbers around 8, a scale a group."""
    inputs = weight.T.float()  # (inputs, outputs)
    groups = torch.arange(len(inputs)) // size
    scales = (inputs.reshape(-1, size, weight.shape[0]).abs().amax(1) / 7).half()
    numbers = (inputs / scales.float()[groups]).round().clamp(-8, 7) + 8
    zeros = torch.full_like(scales, 8.0).float()
    if method == "awq":
        return {
            "qweight": words(numbers, _SLOTS["awq"]),
            "qzeros": words(zeros, _SLOTS["awq"]),
            "scales": scales,
        }
    packed = words(numbers.T.contiguous(), _SLOTS["gptq"]).T.contiguous()
    return {
        "qweight": packed,
        "qzeros": words(zeros - 1, _SLOTS["gptq"]),
        "scales": scales,
        "g_idx": groups.to(torch.int32),
    }


class Nearest:
    """A library that rounds to the nearest; `spoil` does to what it writes what may go wrong with another."""

    def __init__(self, spoil: Callable[[dict[str, torch.Tensor]], object] = lambda tensors: None) -> None:
        self.spoil = spoil

    def tokenizer(self, folder: Path) -> Any:
        return AutoTokenizer.from_pretrained(folder)

    def full(self, folder: Path, scratch: Path) -> Any:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def quantize(self, options: Any, folder: Path, dtype: torch.dtype, rows: Any, out: Path, step: Step) -> None:
        tensors = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
        for layer in shapes(Model.facts(folder)):
            parts = pack(tensors.pop(f"{layer}.weight"), options.rounding.quant_method, options.group_size)
            tensors |= {f"{layer}.{part}": tensor for part, tensor in parts.items()}
        self.spoil(tensors)
        save_file(tensors, out / "model.safetensors")
        (out / "quant_log.csv").write_text("time,0.31")

    def quantized(self, options: Any, out: Path, folder: Path, scratch: Path) -> Any:
        model = self.full(folder, scratch)
        model.load_state_dict({**model.state_dict(), **unpacked(out, options.rounding)})
        return model


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = write_model(tmp_path_factory.mktemp("small"), byte_level(), dtype=torch.float16, intermediate=128)
    return Model(folder, "b" * 64)


@pytest.fixture
def texts(tmp_path: Path) -> TextData:
    folder = tmp_path / "texts"
    folder.mkdir()
    write_rows(folder, "train", [{"prompt": None, "completion": text} for text in TEXTS])
    return TextData(folder, "t" * 64)


class Made:
    """A step that was carried out by a library of the test's own."""

    def __init__(self, options: Any, model: Model, data: Any, folder: Path, library: Nearest) -> None:
        for name in ("out", "scratch"):
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir()
        self.events: list[dict[str, Any]] = []
        self.step = Step("q", folder / "out", folder / "scratch", 1, 1, self.events.append)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "import_module", lambda *_: library)
            options.run(model, data, step=self.step)


@pytest.mark.parametrize("options", [Gptq(group_size=32, rows=8), Awq(group_size=32, rows=8, backend="autoawq")])
def test_an_honest_result_has_the_models_own_files_and_figures(
    options: Any, small: Model, texts: TextData, tmp_path: Path
) -> None:
    made = Made(options, small, texts, tmp_path, Nearest())
    out = made.step.out
    assert not list(QuantizedModel.missing(out))
    assert not (out / "quant_log.csv").exists()
    config = json.loads((out / "config.json").read_text())
    assert config.pop("quantization_config") == options.quantization_config()
    given = json.loads((small.path / "config.json").read_text())
    given.pop("transformers_version")
    assert config == given
    assert (out / "tokenizer.json").read_bytes() == (small.path / "tokenizer.json").read_bytes()
    foreseen = options.foresee({"model": [Model.facts(small.path)]})
    assert QuantizedModel.facts(out).tensors == foreseen.tensors
    assert made.step.figures["layers"] == 14 and made.step.figures["calibration_rows"] == 8
    assert made.step.figures["greedy_agreement"] > 0.3 and made.step.figures["logits_error"] < 1
    assert made.step.figures["share_of_bytes"] < 0.7


def _leave_one_as_it_was(tensors: dict[str, torch.Tensor]) -> None:
    for part in ("qweight", "qzeros", "scales", "g_idx"):
        del tensors[f"model.layers.1.mlp.down_proj.{part}"]
    tensors["model.layers.1.mlp.down_proj.weight"] = torch.ones(64, 128)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_leave_one_as_it_was, r"model.layers.1.mlp.down_proj.qweight is missing"),
        (_leave_one_as_it_was, r"model.layers.1.mlp.down_proj.weight"),
        (
            lambda tensors: tensors.update({"lm_head.qweight": torch.ones(8, 405, dtype=torch.int32)}),
            r"lm_head.qweight is packed, though it was to stay",
        ),
        (
            lambda tensors: tensors["model.layers.0.mlp.up_proj.scales"].fill_(float("nan")),
            r"model.layers.0.mlp.up_proj.scales is not finite",
        ),
        (
            lambda tensors: tensors["model.layers.0.mlp.up_proj.qweight"].zero_(),
            r"model.layers.0.mlp.up_proj.qweight is one number throughout",
        ),
        (
            lambda tensors: tensors.update({"model.layers.0.mlp.up_proj.qweight": torch.rand(8, 128)}),
            r"up_proj.qweight is F32 of \(8, 128\) in place of I32 of \(8, 128\)",
        ),
        (
            lambda tensors: tensors.update({"model.norm.weight": tensors["model.norm.weight"].bfloat16()}),
            r"model.norm.weight is BF16 in place of F16",
        ),
    ],
)
def test_a_silently_unquantized_result_is_an_error_that_names_the_layers(
    spoil: Any, told: str, small: Model, texts: TextData, tmp_path: Path
) -> None:
    with pytest.raises(StepError, match=told):
        Made(Gptq(group_size=32, rows=8), small, texts, tmp_path, Nearest(spoil))


def test_without_data_the_model_writes_what_it_is_calibrated_on(small: Model, tmp_path: Path) -> None:
    made = Made(Gptq(group_size=32, rows=8, max_length=20), small, None, tmp_path, Nearest())
    assert made.step.figures["calibration_tokens"] == 8 * 20
    full, tokenizer = Nearest().full(small.path, tmp_path), Nearest().tokenizer(small.path)
    options = Gptq(rows=8, max_length=20)
    rows, again, other = (own_rows(options, full, tokenizer, seed, lambda *_: None) for seed in (1, 1, 2))
    assert rows == again != other
    assert len({row[0] for row in rows}) == 8 and {len(row) for row in rows} == {20}


def test_rows_are_chosen_by_the_seed_and_cut(small: Model, texts: TextData, tmp_path: Path) -> None:
    tokenizer = Nearest().tokenizer(small.path)

    def chosen(seed: int, **options: Any) -> list[str]:
        step = Step("q", tmp_path, tmp_path, seed, 1, lambda event: None)
        rows = calibration_rows(Gptq(**options), texts, tokenizer, step)
        return [tokenizer.decode(row, skip_special_tokens=True) for row in rows]

    first = chosen(1, rows=8)
    assert first == chosen(1, rows=8) != chosen(2, rows=8)
    assert len(first) == 8 and set(first) < set(TEXTS) and first == sorted(first, key=TEXTS.index)
    assert len(chosen(1, rows=100)) == 40, "all there are"
    assert all(TEXTS[place].startswith(text) for place, text in enumerate(chosen(1, rows=100, max_length=16)))


def test_rows_that_the_template_refuses_are_counted(small: Model, tmp_path: Path) -> None:
    tokenizer = Nearest().tokenizer(small.path)
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    folder = tmp_path / "chats"
    folder.mkdir()
    write_rows(folder, "train", [{"messages": [{"role": "user", "content": text}], "tools": None} for text in TEXTS])
    events: list[dict[str, Any]] = []
    step = Step("q", tmp_path, tmp_path, 1, 1, events.append)
    with pytest.raises(StepError, match="only 0 of 8 rows are left"):
        calibration_rows(Gptq(rows=8), ChatData(folder, "c" * 64), tokenizer, step)
    assert "left out of 8 rows: 8 that the template refuses" in events[0]["text"]


def test_a_model_that_says_nothing_is_refused() -> None:
    wanted = [torch.randn(5, 10)]
    same = agreement(wanted, wanted)
    assert (same["greedy_agreement"], same["compared_positions"]) == (1, 5)
    assert abs(same["kl"]) < 1e-6 and same["logits_error"] == 0
    with pytest.raises(StepError, match="not finite"):
        agreement([torch.full((5, 10), float("nan"))], wanted)
    with pytest.raises(StepError, match=r"nothing like[^`]*Take more bits"):
        agreement([torch.randn(5, 10)], wanted)
    constant = [torch.ones(5, 10)]
    assert agreement(constant, constant)["logits_error"] == 0
    with pytest.raises(StepError, match="off by inf"):
        agreement(wanted, constant)


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_packed_numbers_stand_for_the_weight(method: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weight = torch.randn(16, 64)
    save_file({f"a.0.b.{name}": part for name, part in pack(weight, method, 32).items()}, tmp_path / "m.safetensors")
    found = unpacked(tmp_path, Rounding(method, 4, 32, "F16"))["a.0.b.weight"]
    assert found.shape == weight.shape
    assert float((found - weight).abs().max()) < 0.6 * float(weight.abs().max()) / 7


def test_what_auto_gptq_makes_of_gpt2_is_turned_back(tmp_path: Path) -> None:
    """GPT-2 holds (inputs, outputs), which of a square layer no shape would tell."""
    folder, out = tmp_path / "model", tmp_path / "out"
    config = GPT2Config(vocab_size=50, n_embd=32, n_layer=1, n_head=2, n_positions=32, initializer_range=0.2)
    AutoModelForCausalLM.from_config(config, dtype=torch.float16).save_pretrained(folder)
    given = load_file(folder / "model.safetensors")
    tensors = dict(given)
    layers = shapes(Model.facts(folder))
    for layer in layers:
        parts = pack(tensors.pop(f"{layer}.weight").T, "gptq", 32)
        tensors |= {f"{layer}.{part}": tensor for part, tensor in parts.items()}
    out.mkdir()
    save_file(tensors, out / "model.safetensors")
    found = quantized(Gptq(group_size=32, backend="auto-gptq"), out, folder, tmp_path).state_dict()
    assert len(layers) == 4
    for layer in layers:
        weight = given[f"{layer}.weight"]
        assert float((found[f"{layer}.weight"] - weight).abs().max()) < 0.6 * float(weight.abs().max()) / 7
