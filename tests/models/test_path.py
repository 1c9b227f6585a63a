import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneforge import Model, Step, StepError
from tuneforge_models import folders
from tuneforge_models.local import Local


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of a real model, to be spoilt."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _shard(folder: Path) -> None:
    """Two shards and their index, as large models are saved."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, folder / shard, {"format": "pt"})
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    (folder / folders.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.mark.slow  # imports torch
def test_pickles_that_are_named_become_safetensors(folder: Path, saved: Path, step: Step) -> None:
    import torch
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    halves = {f"pytorch_model-{part}.bin": sorted(tensors)[part::2] for part in (0, 1)}
    for name, held in halves.items():
        torch.save({key: tensors[key] for key in held}, folder / name)
    (error,) = Local(path=folder).check({})
    assert "pickles: [pytorch_model-0.bin, pytorch_model-1.bin]" in error.fix
    method = Local(path=folder, pickles=tuple(halves))
    assert list(method.check({})) == [] and any(need.startswith("torch") for need in method.requires({}))
    method.run(step=step)
    assert Model.facts(step.out).tensors == Model.facts(saved).tensors
    came = load_file(step.out / "model.safetensors")
    assert all(torch.equal(came[name], tensors[name]) for name in tensors)


def test_a_model_is_copied_and_loads(folder: Path, step: Step) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (folder / "training_args.bin").write_bytes(b"a pickle beside safetensors is left behind")
    (folder / "README.md").write_text("so is this")
    (folder / "consolidated.safetensors").write_bytes(b"and this, which transformers never loads")
    method = Local(path=folder)
    assert list(method.check({})) == []
    assert method.foresee({}).template == (folder / "chat_template.jinja").read_text()
    method.run(step=step)
    taken = {file.name for file in step.out.iterdir()}
    assert taken == {file.name for file in folder.iterdir()} - {
        "training_args.bin",
        "README.md",
        "consolidated.safetensors",
    }
    assert list(Model.missing(step.out)) == []
    assert all(file.stat().st_nlink == 1 for file in step.out.iterdir()), "a person's files are never linked"
    AutoModelForCausalLM.from_pretrained(step.out)
    assert AutoTokenizer.from_pretrained(step.out).eos_token == "<|im_end|>"


def test_shards_are_taken_by_their_index(folder: Path, step: Step) -> None:
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    _shard(folder)
    assert list(Local(path=folder).check({})) == []
    Local(path=folder).run(step=step)
    again = AutoModelForCausalLM.from_pretrained(step.out).state_dict()
    assert all(tensor.equal(again[name]) for name, tensor in whole.items())


@pytest.mark.parametrize("name", ["../other.safetensors", "/other.safetensors", "in/other.safetensors", "..", 3, None])
def test_an_index_names_only_what_lies_beside_it(folder: Path, step: Step, name: object) -> None:
    _shard(folder)
    for place in (folder.parent, folder / "in"):
        place.mkdir(exist_ok=True)
        shutil.copyfile(folder / "model-00001-of-00002.safetensors", place / "other.safetensors")
    _edit(folder / folders.INDEX, weight_map={"w": name})
    (error,) = Local(path=folder).check({})
    assert "no file of weights beside it" in error.problem
    with pytest.raises(StepError, match="no file of weights beside it"):
        Local(path=folder).run(step=step)
    assert not list(step.out.parent.rglob("other.safetensors"))


def test_a_template_takes_the_place_of_every_other(folder: Path, tmp_path: Path, step: Step) -> None:
    from transformers import AutoTokenizer

    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("another, used when there are tools")
    _edit(folder / "tokenizer_config.json", chat_template="the old one")
    template = tmp_path / "short.jinja"
    template.write_text("{% for message in messages %}<|im_start|>{{ message.content }}<|im_end|>{% endfor %}")
    method = Local(path=folder, template=template)
    assert list(method.check({})) == []
    assert method.foresee({}).template == template.read_text()
    method.run(step=step)
    tokenizer = AutoTokenizer.from_pretrained(step.out)
    assert tokenizer.chat_template == template.read_text()
    chat = [{"role": "user", "content": "lamps"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == "<|im_start|>lamps<|im_end|>"
    assert not (step.out / "additional_chat_templates").exists()
    assert "old one" not in (step.out / "tokenizer_config.json").read_text()
    assert tokenizer.eos_token == "<|im_end|>"


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _sentencepiece(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")


def _one_level_up(folder: Path) -> None:
    (folder / "checkpoint-5").mkdir()
    for file in folder.glob("*.*"):
        file.rename(folder / "checkpoint-5" / file.name)


def _adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


def _shard_lost(folder: Path) -> None:
    _shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


@pytest.mark.parametrize(
    ("spoil", "problem", "fix"),
    [
        (_pickled, "weights as pickles alone (pytorch_model.bin)", "save them once as safetensors"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights", "save_pretrained"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "model.fp16.safetensors"),
            "but model.fp16.safetensors",
            "rename",
        ),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json", "save_pretrained"),
        (_one_level_up, "has no config.json", "Did you mean its folder checkpoint-5?"),
        (_adapter, "has no config.json", "PEFT adapter"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json", "fast tokenizer"),
        (_sentencepiece, "has no tokenizer.json, only tokenizer.model", "fast tokenizer"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not JSON", "again"),
        (lambda folder: (folder / "config.json").write_text("{}"), "names no model_type", "save_pretrained"),
        (_shard_lost, "names 1 files that are not there: model-00002-of-00002.safetensors", "again"),
        (
            lambda folder: (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
            "pointer of Git LFS",
            "again",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x04"), "cut short", "again"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"??"), "no header", "again"),
        (
            lambda folder: _edit(
                folder / "config.json", model_type="own", auto_map={"AutoModelForCausalLM": "own.OwnForCausalLM"}
            ),
            "code that comes with a model is never run",
            "architecture that transformers has",
        ),
        (
            lambda folder: _edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]}),
            "its tokenizer has code of its own",
            "fast tokenizer",
        ),
    ],
)
def test_a_folder_that_is_no_model_is_refused(
    folder: Path, step: Step, spoil: Callable[[Path], object], problem: str, fix: str
) -> None:
    spoil(folder)
    method = Local(path=folder)
    findings = [finding for finding in method.check({}) if problem in finding.problem]
    assert [finding.field for finding in findings] == ["path"]
    assert fix in findings[0].fix
    assert method.foresee({}).config == {}
    with pytest.raises(StepError):
        method.run(step=step)
    assert list(step.out.iterdir()) == []


def test_code_of_a_known_architecture_is_left_alone(folder: Path) -> None:
    """Many models that transformers has by now still name the code they once came with."""
    _edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM"})
    assert list(Local(path=folder).check({})) == []


def test_what_is_not_there_is_named(tmp_path: Path, folder: Path) -> None:
    (finding,) = Local(path=tmp_path / "nowhere").check({})
    assert "nowhere is not there" in finding.problem
    (finding,) = Local(path=folder / "config.json").check({})
    assert "config.json is a file" in finding.problem
    (folder / "empty.jinja").touch()
    for template, problem in (("gone.jinja", "cannot be read"), ("empty.jinja", "is empty")):
        (finding,) = Local(path=folder, template=folder / template).check({})
        assert (finding.field, problem in finding.problem) == ("template", True)


@given(data=st.data())
def test_weights_cut_anywhere_or_grown_are_noticed(saved: Path, data: st.DataObject) -> None:
    whole = (saved / "model.safetensors").read_bytes()
    size = data.draw(st.integers(0, len(whole) + 8).filter(lambda size: size != len(whole)))
    folder = saved.parent / "cut"
    if not folder.exists():
        shutil.copytree(saved, folder)
    (folder / "model.safetensors").write_bytes(whole[:size].ljust(size, b"\0"))
    assert [finding.problem.split()[0] for finding in folders.problems(folder)] == ["model.safetensors"]
