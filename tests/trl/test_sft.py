import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from trl import pack_dataset

from tests.trl.colours import CHATS, MISTAKEN
from tuneforge import Adapter, Model, StepError
from tuneforge.kit.chats import prompt_ids
from tuneforge.kit.models import load_model, load_tokenizer
from tuneforge_trl.sft import Sft

pytestmark = pytest.mark.slow

LORA = {"type": "lora", "r": 16, "alpha": 64}


def answers(artifact: Model | Adapter) -> list[str]:
    """What the model says, greedily, to each question it was trained on."""
    tokenizer, model = load_tokenizer(artifact), load_model(artifact, dtype=torch.float32)
    said = []
    for chat in CHATS:
        prompt = prompt_ids(tokenizer, chat["messages"][:1])
        ids = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=12, do_sample=False
        )
        said.append(tokenizer.decode(ids[0, len(prompt) :]))
    return said


def texts(chats: list[dict[str, Any]]) -> list[str]:
    return [f"{chat['messages'][1]['content']}<|im_end|>" for chat in chats]


@pytest.fixture(scope="module")
def lora(whole: Any, make_chats: Any, carry_out: Any) -> Any:
    return carry_out(Sft(steps=30, batch_size=7, learning_rate=1e-2, adapter=LORA), whole.result, make_chats(MISTAKEN))


def test_a_whole_model_learns(whole: Any, base: Model) -> None:
    assert whole.losses[0] > 4
    assert whole.losses[-1] < 0.1
    assert whole.figures["eval_loss"] < 0.1
    assert answers(whole.result) == texts(CHATS)
    assert answers(base) != texts(CHATS)


def test_what_is_told_of_it(whole: Any) -> None:
    figures = whole.figures
    assert figures["steps"] == 100 and len(whole.losses) == 100
    assert figures["train_loss"] == pytest.approx(sum(whole.losses) / 100)
    assert figures["rows"] == 7 and figures["left_out"] == {} and figures["eval_rows"] == 3
    assert 0 < figures["tokens_under_loss"] < figures["tokens"]
    assert figures["trainable_parameters"] == figures["total_parameters"] > 50_000
    total = f"{figures['total_parameters']:,}"
    assert whole.log[0] == f"trainable: {total} of {total} parameters (100.0%)"
    assert [line.split(":")[0] for line in whole.log[1:]] == [f"step {n} of 100" for n in range(10, 101, 10)]


def test_a_whole_model_is_stored_as_its_base_was(whole: Any, base: Model) -> None:
    theirs = {path.name: path.read_bytes() for path in base.path.iterdir()}
    ours = whole.files()
    assert ours.keys() == theirs.keys()
    for name in theirs.keys() - {"model.safetensors", "config.json", "generation_config.json"}:
        assert ours[name] == theirs[name], name
    assert json.loads(ours["config.json"]) == json.loads(theirs["config.json"])
    assert json.loads(ours["generation_config.json"]) == json.loads(theirs["generation_config.json"])
    weights = load_file(whole.step.out / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert weights.keys() == load_file(base.path / "model.safetensors").keys()
    assert whole.step.base is None


def test_an_adapter_learns(lora: Any, whole: Any) -> None:
    assert answers(lora.result) == texts(MISTAKEN)
    assert lora.figures["trainable_parameters"] < lora.figures["total_parameters"] / 4
    assert lora.step.base == whole.result.digest
    assert sorted(lora.files()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_an_adapter_names_its_base_by_digest(lora: Any, whole: Any) -> None:
    config = json.loads(lora.files()["adapter_config.json"])
    assert config["base_model_name_or_path"] == f"sha256:{whole.result.digest}"
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (16, 64, 0)
    assert config["target_modules"] == sorted(config["target_modules"])
    assert not any("lm_head" in target for target in config["target_modules"])
    assert str(lora.step.out.parent.parent) not in json.dumps(config)


def test_an_adapter_is_trained_on(lora: Any, whole: Any, make_chats: Any, carry_out: Any) -> None:
    on = carry_out(Sft(steps=3, batch_size=7, learning_rate=1e-3), lora.result, make_chats(MISTAKEN))
    assert on.losses[0] < 0.1
    assert on.step.base == whole.result.digest
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (lora.step.out, on.step.out))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert on.files()["adapter_config.json"] == lora.files()["adapter_config.json"]


def test_chosen_layers_alone_get_an_adapter(base: Model, make_chats: Any, carry_out: Any) -> None:
    targets = {"target_modules": ["q_proj", "v_proj"], "r": 4, "alpha": 4}
    run = carry_out(Sft(steps=1, adapter=targets), base, make_chats())
    layers = {name.split(".")[-3] for name in load_file(run.step.out / "adapter_model.safetensors")}
    assert layers == {"q_proj", "v_proj"}
    assert json.loads(run.files()["adapter_config.json"])["lora_alpha"] == 4


def test_completions_are_learnt_without_a_template(
    base: Model, make_texts: Any, carry_out: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(base.path, tmp_path / "plain"))
    (folder / "chat_template.jinja").unlink()
    asked = [(chat["messages"][0]["content"], f" is {chat['messages'][1]['content']}") for chat in CHATS]
    data = make_texts([*asked, "what is blue"], asked[:2])
    run = carry_out(Sft(steps=100, batch_size=8, learning_rate=5e-3), Model(folder, "p" * 64), data)
    assert run.figures["rows"] == 8 and run.figures["eval_loss"] < 0.2 and run.warnings == []
    tokenizer, model = load_tokenizer(run.result), load_model(run.result, dtype=torch.float32)
    for prompt, completion in asked:
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        said = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        assert tokenizer.decode(said[0]) == f"{prompt}{completion}<|endoftext|>"


def test_a_template_that_hides_its_turns_ends_the_step_at_the_first_row(
    base: Model, make_chats: Any, carry_out: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(base.path, tmp_path / "hiding"))
    (folder / "chat_template.jinja").write_text(
        "{{ messages | length }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
        "{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    model = Model(folder, "h" * 64)
    talk = {"messages": CHATS[0]["messages"] + CHATS[1]["messages"], "tools": None}
    with pytest.raises(StepError, match=r"renders the beginning .* differently(.|\n)*loss_on: last"):
        carry_out(Sft(steps=1), model, make_chats([*CHATS, talk]))
    assert carry_out(Sft(steps=1, loss_on="all"), model, make_chats([*CHATS, talk])).figures["rows"] == 8


def test_a_template_that_ends_no_turn_is_warned_of(
    base: Model, make_chats: Any, carry_out: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(base.path, tmp_path / "endless"))
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    run = carry_out(Sft(steps=1), Model(folder, "e" * 64), make_chats())
    assert run.warnings == [
        "the chat template ends the assistant's turns with no special token: the model may not learn where to stop"
    ]


def test_packing_drops_nothing_and_leaves_the_loss_as_it_is(base: Model, make_chats: Any, carry_out: Any) -> None:
    method = {"steps": 1, "batch_size": 8, "learning_rate": 1e-5, "max_length": 60}
    plain = carry_out(Sft(**method), base, make_chats())
    packed = carry_out(Sft(**method, packing=True), base, make_chats())
    assert packed.figures["packs"] < plain.figures["rows"] == packed.figures["rows"]
    assert packed.figures["tokens"] == plain.figures["tokens"]
    assert packed.losses == pytest.approx(plain.losses, rel=1e-5)
    rows = Dataset.from_file(str(packed.step.scratch / "rows" / "train.arrow"))
    packs = pack_dataset(rows, 60)
    pieces = [
        pack["input_ids"][sum(pack["seq_lengths"][:k]) : sum(pack["seq_lengths"][: k + 1])]
        for pack in packs
        for k in range(len(pack["seq_lengths"]))
    ]
    assert sorted(pieces) == sorted(rows["input_ids"])


def test_the_split_of_a_batch_does_not_matter(base: Model, make_chats: Any, carry_out: Any) -> None:
    runs = [
        carry_out(Sft(epochs=2, batch_size=4, micro_batch_size=micro, learning_rate=1e-3), base, make_chats())
        for micro in (1, 2, 4)
    ]
    assert [run.figures["steps"] for run in runs] == [4, 4, 4]
    for run in runs[1:]:
        assert run.losses == pytest.approx(runs[0].losses, rel=1e-4)


def test_long_and_empty_rows_are_left_out_and_counted(base: Model, make_chats: Any, carry_out: Any) -> None:
    long = {"messages": [{"role": "user", "content": "a b " * 40}, CHATS[0]["messages"][1]], "tools": None}
    silent = {"messages": [{"role": "user", "content": "Hello?"}], "tools": None}
    run = carry_out(Sft(steps=1, max_length=32), base, make_chats([*CHATS, long, long, silent]))
    assert run.figures["rows"] == 7
    assert run.figures["left_out"] == {"longer than 32 tokens": 2, "without an answer of the assistant": 1}
    assert "train: 2 of 10 rows left out: longer than 32 tokens" in run.warnings


def test_more_than_half_of_the_rows_left_out_ends_the_step(base: Model, make_chats: Any, carry_out: Any) -> None:
    silent = {"messages": [{"role": "user", "content": "Hello?"}], "tools": None}
    assert carry_out(Sft(steps=1), base, make_chats([*CHATS, *[silent] * 7], [silent])).figures["rows"] == 7
    with pytest.raises(
        StepError, match=r"8 of 15 rows .* \(8 without an answer of the assistant\)\n.*Raise max_length"
    ):
        carry_out(Sft(steps=1), base, make_chats([*CHATS, *[silent] * 8]))


def test_the_terminator_that_is_learnt_is_a_stop_token(
    base: Model, make_chats: Any, carry_out: Any, tmp_path: Path
) -> None:
    shutil.copytree(base.path, tmp_path / "ended-otherwise")
    (tmp_path / "ended-otherwise" / "generation_config.json").write_text('{"eos_token_id": 0, "pad_token_id": 0}')
    run = carry_out(Sft(steps=1), Model(tmp_path / "ended-otherwise", "e" * 64), make_chats())
    learnt = load_tokenizer(base).convert_tokens_to_ids("<|im_end|>")
    assert learnt != 0
    assert json.loads(run.files()["generation_config.json"]) == {"eos_token_id": [0, learnt], "pad_token_id": 0}


def test_no_more_held_out_rows_than_needed(
    base: Model, make_chats: Any, carry_out: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuneforge_trl.sft_engine.HELD_OUT_TOKENS", 40)
    run = carry_out(Sft(steps=1), base, make_chats(held_out=CHATS))
    assert 1 < run.figures["eval_rows"] < len(CHATS)


def test_no_row_to_learn_from(base: Model, make_chats: Any, carry_out: Any) -> None:
    with pytest.raises(StepError, match=r"no row is left \(7 longer than 8 tokens\)"):
        carry_out(Sft(max_length=8), base, make_chats())


def test_a_loss_that_is_no_number_ends_the_step(base: Model, make_chats: Any, carry_out: Any, tmp_path: Path) -> None:
    with pytest.raises(
        StepError, match=r"the (loss|gradient's norm) is (nan|inf) at step \d of 30\n.*Lower the learning rate"
    ):
        carry_out(Sft(steps=30, batch_size=7, learning_rate=1e30, schedule="constant"), base, make_chats(), tmp_path)
    assert not any((tmp_path / "out").iterdir())


def test_nothing_is_printed(base: Model, make_chats: Any, carry_out: Any, capfd: pytest.CaptureFixture[str]) -> None:
    carry_out(Sft(steps=2, gradient_checkpointing=True, weight_decay=0.1, warmup=0.5), base, make_chats(held_out=CHATS))
    assert capfd.readouterr().out == ""
