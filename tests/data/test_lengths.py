"""Rows of too many tokens are left out, whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tuneforge import Adapter, Model, StepError
from tuneforge_data import Chat, Feedback, Preference

from .conftest import CarryOut, Written

# Every message is its role, its words and an end: two tokens more than it has words.
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "{{ m.role }} {{ m.content }} <end> {% endfor %}{% if add_generation_prompt %}assistant {% endif %}"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("model")
    words = ["<unk>", "<end>", "system", "user", "assistant", "word"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return Model(folder, "digest")


def row(words: int) -> dict[str, str]:
    return {"prompt": f"word {words}", "completion": "word " * words}


def test_chat_rows_up_to_the_length_are_kept_whole(carry_out: CarryOut, written: Written, model: Model) -> None:
    # (user, two words, end) and (assistant, n words, end).
    path = written([row(words) for words in range(1, 8)])
    outcome = carry_out(Chat(path=path, max_length=10), model)
    assert [chat["messages"][1]["content"] for chat in outcome.train] == ["word " * words for words in range(1, 5)]
    assert outcome.summary["left_out"] == {"overlength": 3}


def test_a_pair_counts_by_its_longer_answer(carry_out: CarryOut, written: Written, model: Model) -> None:
    rows = [{"prompt": "word", "chosen": "word " * n, "rejected": "word " * (6 - n)} for n in (1, 2, 4, 5)]
    outcome = carry_out(Preference(path=written(rows), max_length=9), model)
    assert [len(pair["chosen"][0]["content"].split()) for pair in outcome.train] == [2, 4]
    assert outcome.summary["left_out"] == {"overlength": 2}


def test_a_judged_answer_counts_with_its_prompt(carry_out: CarryOut, written: Written, model: Model) -> None:
    rows = [{**row(words), "label": True} for words in range(1, 8)]
    outcome = carry_out(Feedback(path=written(rows), max_length=10), model)
    assert len(outcome.train) == 4 and outcome.summary["left_out"] == {"overlength": 3}


def test_an_adapter_has_the_tokenizer_of_its_base(
    carry_out: CarryOut, written: Written, model: Model, tmp_path: Path
) -> None:
    adapter = Adapter(tmp_path, "other", base=model)
    assert carry_out(Chat(path=written([row(1), row(5)]), max_length=10), adapter).summary["left_out"] == {
        "overlength": 1
    }


def test_what_the_template_refuses_is_left_out(carry_out: CarryOut, written: Written, model: Model) -> None:
    talk = [
        {"role": "user", "content": "word"},
        {"role": "assistant", "content": "word"},
        {"role": "tool", "content": "word"},
        {"role": "assistant", "content": "word"},
    ]
    outcome = carry_out(Chat(path=written([row(1), {"messages": talk}]), max_length=100), model)
    assert outcome.summary["left_out"] == {"refused by the chat template": 1}


def test_without_a_model_there_is_nothing_to_count_with(carry_out: CarryOut, written: Written) -> None:
    with pytest.raises(StepError, match="no model is given"):
        carry_out(Chat(path=written([row(1)]), max_length=10))
