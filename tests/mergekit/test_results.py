"""A merge gives the same bytes each time, in the layout of transformers, without the network; or nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoTokenizer

from tests.mergekit.conftest import Merged, make, tuned, weights, with_head
from tuneforge import Adapter, Model, Step, StepError
from tuneforge.artifacts import read_json
from tuneforge.kit.models import load_model, save_adapter
from tuneforge_mergekit import inputs, sanity
from tuneforge_mergekit.averages import Linear
from tuneforge_mergekit.layout import comparable
from tuneforge_mergekit.pruned import DareTies, Della
from tuneforge_mergekit.spheres import Slerp
from tuneforge_mergekit.task_vectors import TaskArithmetic

Merge = Callable[..., Merged]

AGAIN = """
import sys
from pathlib import Path
from tests.mergekit.conftest import Merged
from tuneforge import Model
from tuneforge_mergekit.averages import Linear
from tuneforge_mergekit.pruned import DareTies
folders = [Path(folder) for folder in sys.argv[2:]]
models = [Model(folder, str(number) * 64) for number, folder in enumerate(folders)]
Merged(DareTies(tokenizer="union"), Path(sys.argv[1]) / "dare", 1, models=models[:3], base=models[3])
Merged(Linear(tokenizer="union"), Path(sys.argv[1]) / "linear", 1, models=models[:3])
"""


@pytest.fixture(scope="module")
def foreign(base: Model, three: list[Model]) -> list[Model]:
    """Models of three vocabularies, the last one the base's."""
    words = ("Zebras yawn.", "Quick foxes jump, quick foxes run.", "Vexed wizards, vexed wizards!")
    folder = base.path.parent
    return [make(folder / f"foreign-{at}", texts=words[at:], vocabulary=280, seed=at) for at in range(2)] + three[:1]


@pytest.mark.slow
def test_the_bytes_are_the_same_in_another_folder_and_another_process(
    foreign: list[Model], base: Model, merge: Merge, tmp_path: Path
) -> None:
    """Where mergekit goes by the order of a set of paths, or of the tokens of a tokenizer, it is another each time."""
    moved = [shutil.copytree(model.path, tmp_path / f"elsewhere {at}" / "@a+b") for at, model in enumerate(foreign)]
    environment = os.environ | {"PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", AGAIN, str(tmp_path / "again"), *map(str, moved), str(base.path)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], env=environment, capture_output=True)
    for name, here in (
        ("dare", merge(DareTies(tokenizer="union"), foreign, base)),
        ("linear", merge(Linear(tokenizer="union"), foreign)),
    ):
        there = tmp_path / "again" / name / "out"
        assert here.files() == {path.name: path.read_bytes() for path in sorted(there.iterdir())}


def test_what_is_kept_by_lot_follows_from_the_seed(base: Model, three: list[Model], merge: Merge) -> None:
    method = Della(densities=0.5)
    one, again, other = (merge(method, three, base, seed=seed).files() for seed in (1, 1, 2))
    assert one == again
    assert [name for name in one if one[name] != other[name]] == ["model.safetensors"]


def test_it_has_the_files_of_a_model_and_no_paths(base: Model, three: list[Model], merge: Merge) -> None:
    merged = merge(TaskArithmetic(), three, base)
    assert merged.files().keys() == {path.name for path in base.path.iterdir()}
    for name, content in merged.files().items():
        assert str(merged.step.scratch).encode() not in content, name
        if name != "model.safetensors":
            assert content == (base.path / name).read_bytes(), name


def test_nothing_is_fetched(three: list[Model], merge: Merge, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def never(*where: Any) -> None:
        raise AssertionError(f"connected to {where}")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    monkeypatch.setattr(socket.socket, "connect", never)
    merge(Linear(), three)


def test_one_model_can_be_there_twice(three: list[Model], merge: Merge) -> None:
    found = merge(Linear(), [three[0], three[0], three[1]]).weights
    one, two = map(weights, three[:2])
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.allclose(found[name], (2 * one[name] + two[name]) / 3, atol=1e-6)


def adapter_on(base: Model, folder: Path, seed: int) -> Adapter:
    folder.mkdir()
    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    save_adapter(get_peft_model(load_model(base, dtype=torch.float32), config), base.path, folder, base)  # type: ignore[arg-type]
    return Adapter(folder, str(seed) * 64, base)


def test_an_adapter_is_merged_into_its_base_first(
    base: Model, three: list[Model], merge: Merge, tmp_path: Path
) -> None:
    adapter = adapter_on(base, tmp_path / "adapter", 1)
    merged = merge(TaskArithmetic(weights=[1, 0]), [adapter, three[0]], base)
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        wanted, found = (load_model(one, dtype=torch.float32)(ids).logits for one in (adapter, merged.model))
        plain = load_model(base, dtype=torch.float32)(ids).logits
    assert torch.allclose(wanted, found, atol=1e-4) and not torch.allclose(wanted, plain, atol=0.1)
    assert merged.figures["model_0"]["merge_error"] < 1e-4


def test_an_adapter_that_was_merged_before_a_crash_is_not_merged_again(
    base: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Step("merged", tmp_path / "out", tmp_path, seed=1, threads=1, send=lambda event: None)
    adapter = adapter_on(base, tmp_path / "adapter", 1)
    (tmp_path / "merging-0").mkdir()  # half-done
    (tmp_path / "merging-0" / "model-00001-of-00002.safetensors").touch()
    (before,) = inputs.folders([adapter], None, step)
    assert before.is_relative_to(tmp_path) and len(list(before.glob("*.safetensors"))) == 1
    monkeypatch.setattr(inputs, "merge", None)
    assert inputs.folders([adapter], None, step) == [before]


def test_an_adapter_on_another_base_is_refused(base: Model, three: list[Model], merge: Merge, tmp_path: Path) -> None:
    adapter = adapter_on(three[1], tmp_path / "adapter", 1)
    with pytest.raises(StepError, match="model 1 is an adapter on another model than the base"):
        merge(TaskArithmetic(), [three[0], adapter], base)
    merge(Slerp(), [three[0], adapter])  # which has none


def test_a_result_with_infinite_weights_is_refused(base: Model, merge: Merge, tmp_path: Path) -> None:
    wide = tuned(base, tmp_path / "wide", 1)
    large = {name: tensor * 1e6 if "mlp" in name else tensor for name, tensor in weights(wide).items()}
    save_file(large, wide.path / "model.safetensors", {"format": "pt"})
    with pytest.raises(StepError, match=r"9 merged tensors hold infinite values or no numbers: model\.layers\.0\.mlp"):
        merge(Linear(dtype="float16"), [wide, base])


def with_token(model: Model, folder: Path) -> Model:
    """The model with a token that it has no embedding for, as models of texts have one for images."""
    shutil.copytree(model.path, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    return Model(folder, folder.name.ljust(64, "0"))


def test_a_token_that_has_no_embedding_before_needs_none(base: Model, merge: Merge, tmp_path: Path) -> None:
    one = with_token(base, tmp_path / "one")
    merged = merge(Linear(), [one, tuned(one, tmp_path / "two", 1)])
    assert merged.figures["tokens_without_embedding"] == 1


def test_a_head_that_is_stored_twice_is_as_good_as_once(merge: Merge, tmp_path: Path) -> None:
    one = make(tmp_path / "one", tied=True)
    two = tuned(one, tmp_path / "two", 1)
    name = "model.embed_tokens.weight"
    for models in ([with_head(one, tmp_path / "twice"), two], [two, with_head(one, tmp_path / "again")]):
        facts = [Model.facts(model.path) for model in models]
        assert not list(Linear().check({"models": facts}))
        merged = merge(Linear(), models)
        assert torch.allclose(merged.weights[name], (weights(one)[name] + weights(two)[name]) / 2, atol=1e-6)
        assert comparable(Model.facts(merged.step.out)) == comparable(Linear().foresee({"models": facts}))


def test_what_mergekit_refuses_is_told_without_paths(base: Model, merge: Merge, tmp_path: Path) -> None:
    less = tuned(base, tmp_path / "less", 1)
    kept = {name: tensor for name, tensor in weights(base).items() if "q_proj" not in name}
    save_file(kept, less.path / "model.safetensors", {"format": "pt"})
    with pytest.raises(StepError, match=r"mergekit cannot merge these models: .*q_proj\.weight") as refused:
        merge(Linear(), [base, less])
    assert "model 1" in str(refused.value) and str(tmp_path) not in str(refused.value)


def test_what_is_unsound_is_told(base: Model, tmp_path: Path) -> None:
    def broken(name: str, change: Callable[[Path], None]) -> str:
        folder = shutil.copytree(base.path, tmp_path / name)
        change(folder)
        with pytest.raises(StepError) as refused:
            sanity.verify(folder, base.path)
        return str(refused.value)

    def without(folder: Path) -> None:
        kept = {name: tensor for name, tensor in weights(base).items() if "q_proj" not in name}
        save_file(kept, folder / "model.safetensors", {"format": "pt"})

    def fewer(folder: Path) -> None:
        cut = {n: t[:100].clone() if "embed" in n or "head" in n else t for n, t in weights(base).items()}
        save_file(cut, folder / "model.safetensors", {"format": "pt"})
        (folder / "config.json").write_text(json.dumps(read_json(folder / "config.json") | {"vocab_size": 100}))

    def loud(folder: Path) -> None:
        raised = {n: t * 1e30 if "norm" in n or "head" in n else t for n, t in weights(base).items()}
        save_file(raised, folder / "model.safetensors", {"format": "pt"})

    def other(folder: Path) -> None:
        shutil.copy(larger.path / "tokenizer.json", folder)

    larger = with_token(base, tmp_path / "larger")
    assert "has 290 embeddings, too few for 1 tokens of its tokenizer, such as <image>" in broken("other", other)
    assert "missing keys model.layers.0.self_attn.q_proj.weight" in broken("without", without)
    assert "has 100 embeddings, too few for" in broken("fewer", fewer)
    assert "logits are not finite" in broken("loud", loud)
    assert sanity.verify(base.path, base.path)["tokens"] == read_json(base.path / "config.json")["vocab_size"]
