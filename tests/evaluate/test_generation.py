"""`evaluate: generation` against plain transformers, one row at a time."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import GenerationConfig

from tuneforge import Adapter, Facts, Model, RewardModel, StepError
from tuneforge.kit.chats import chat_ids, prompt_ids, tokenize_chat
from tuneforge.kit.models import load_model, save_model
from tuneforge.kit.rewards import load_reward_model, new_reward_model, score
from tuneforge_evaluate import Generation

KIM = {"role": "user", "content": "one pear for Kim"}


def chat(*turns: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)], "tools": None}


def words(seed: int, count: int) -> str:
    return " ".join(
        random.Random(seed).choices(["pear", "apple", "plum", "Kim", "Ada", "mill", "sends", "two"], k=count)
    )


def alone(model: Any, tokenizer: Any, row: dict[str, Any], new_tokens: int) -> str:
    """The greedy answer to one row by transformers itself, with no batch and no padding."""
    ids = prompt_ids(tokenizer, row["messages"][:-1])
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=0)
    output = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=new_tokens)
    return tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True).strip()


def test_a_model_that_knows_the_answers_scores_one(world: Any, known_rows: Any) -> None:
    result = world.run(Generation(max_new_tokens=60), [world.blank, world.known], world.chats(known_rows))
    report = result.report
    known = report["scores"]["known"]
    assert (known["exact_match"], known["record_match"], known["finished"]) == (1, 1, 1)
    assert 1 < known["perplexity"] < 1.02
    blank = report["scores"]["blank"]
    assert (blank["exact_match"], blank["record_match"], blank["finished"]) == (0, 0, 0)
    assert blank["new_tokens"] == 60 and blank["perplexity"] > 100
    assert report["subjects"] == ["blank", "known"] and report["best"] == "known"
    assert report["passed"] and report["failures"] == {} and report["rows"] == 3 and report["split"] == "held_out"
    assert report["records"] == 2 and next(iter(known)) == "exact_match"
    assert report["better"] == {
        "exact_match": "higher",
        "record_match": "higher",
        "perplexity": "lower",
        "finished": "higher",
    }
    assert result.figures["exact_match"] == {"blank": 0, "known": 1}


def test_answers_are_kept_with_prompt_and_reference_in_the_order_of_rows(world: Any, known_rows: Any) -> None:
    result = world.run(Generation(max_new_tokens=60, batch_size=2), [world.known], world.chats(known_rows))
    for row, answer in zip(known_rows, result.answers, strict=True):
        assert answer["prompt"] == row["messages"][:1] and answer["tools"] is None
        assert answer["expected"] == answer["answers"]["known"] == row["messages"][1]["content"]
    lengths = [len(world.tokenizer(row["messages"][1]["content"]).input_ids) + 1 for row in known_rows]
    assert result.report["scores"]["known"]["new_tokens"] == pytest.approx(sum(lengths) / 3, abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
@pytest.mark.parametrize("subject", ["known", "adapter"])
def test_batches_answer_as_one_by_one(world: Any, known_rows: Any, subject: str, batch_size: int) -> None:
    rows = known_rows + [chat(words(seed, seed % 9 + 1), "?") for seed in range(8)]
    artifact = getattr(world, subject)
    result = world.run(
        Generation(max_new_tokens=20, batch_size=batch_size, dtype="float32"), [artifact], world.chats(rows)
    )
    model = load_model(artifact, dtype=torch.float32)
    if isinstance(artifact, Adapter):
        model = model.merge_and_unload()
    expected = [alone(model, world.tokenizer, row, 20) for row in rows]
    assert len(set(expected)) > 3, "answers that hardly differ would prove nothing"
    assert [answer["answers"][artifact.digest] for answer in result.answers] == expected


def test_the_prompt_goes_up_to_the_last_answer(world: Any) -> None:
    row = chat("hello", "Hello, what would you like?", "one pear for Kim", "ok")
    row["messages"].append({"role": "user", "content": "thanks"})
    (answer,) = world.run(Generation(max_new_tokens=5), [world.known], world.chats([row])).answers
    assert answer["prompt"] == row["messages"][:3] and answer["expected"] == "ok"


def test_records_match_in_any_order_of_keys_and_after_any_words(world: Any) -> None:
    row = chat("one pear for Kim", 'Here you are: {"items": {"pear": 1.0}, "name": "Kim"}')
    result = world.run(Generation(max_new_tokens=60), [world.known, world.blank], world.chats([row]))
    scores = result.report["scores"]["known"]
    assert (scores["exact_match"], scores["record_match"]) == (0, 1)
    assert next(iter(scores)) == "record_match", "where every reference is a record, that is what counts"
    assert [answer["right"] for answer in result.answers] == [{"known": True, "blank": False}]


def test_without_records_none_are_told(world: Any, known_rows: Any) -> None:
    scores = world.run(Generation(max_new_tokens=60), [world.known], world.chats(known_rows[2:])).report["scores"]
    assert scores["known"]["exact_match"] == 1 and "record_match" not in scores["known"]


def test_a_called_tool_is_the_reference(world: Any) -> None:
    call = {"type": "function", "function": {"name": "send", "arguments": {"to": "Kim"}}}
    row = {"messages": [KIM, {"role": "assistant", "content": None, "tool_calls": [call]}], "tools": [{"name": "send"}]}
    result = world.run(Generation(max_new_tokens=5), [world.blank], world.chats([row]))
    (answer,) = result.answers
    assert '"arguments": {"to": "Kim"}' in answer["expected"] and answer["tools"] == [{"name": "send"}]
    assert result.report["records"] == 1


def test_perplexity_is_that_of_every_assistant_token(world: Any, known_rows: Any) -> None:
    rows = [*known_rows, chat("hello", "one", "two plums", "three"), chat(words(1, 15), words(2, 4))]
    for subject in (world.known, world.blank):
        reported = world.run(Generation(max_new_tokens=1, batch_size=3), [subject], world.chats(rows)).report
        model = load_model(subject, dtype=torch.float32)
        nats, tokens = 0.0, 0
        for row in rows:
            tokenized = tokenize_chat(world.tokenizer, row["messages"])
            with torch.no_grad():
                logits = model(torch.tensor([tokenized.ids])).logits[0, :-1]
            labels = torch.tensor(tokenized.labels[1:])
            nats += torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum").item()
            tokens += int((labels != -100).sum())
        assert reported["scores"][subject.digest]["perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-4)


def test_the_models_own_sampling_settings_do_not_count(world: Any, known_rows: Any) -> None:
    odd = world.copy(
        world.known,
        "odd",
        "generation_config.json",
        lambda config: config.update(do_sample=True, temperature=9.0, repetition_penalty=3.0, max_new_tokens=2),
    )
    scores = world.run(Generation(max_new_tokens=60), [odd], world.chats(known_rows)).report["scores"]
    assert scores["odd"]["exact_match"] == 1


def test_an_answer_ends_at_any_stop_token_of_the_model(world: Any, known_rows: Any) -> None:
    first, _, last = (world.tokenizer.encode(row["messages"][1]["content"]) for row in known_rows)
    place = next(place for place in range(2, len(first)) if first[place] not in (*first[:place], *last))
    stop = first[place]
    early = world.copy(
        world.known, "early", "generation_config.json", lambda config: config.update(eos_token_id=[stop])
    )
    result = world.run(Generation(max_new_tokens=60), [early], world.chats(known_rows))
    cut, _, whole = (answer["answers"]["early"] for answer in result.answers)
    assert cut == world.tokenizer.decode(first[:place]).strip()
    assert whole == known_rows[2]["messages"][1]["content"], "the tokenizer's own stop token still counts"
    assert result.report["scores"]["early"]["finished"] == 1


def test_an_answer_ends_at_the_terminator_of_the_template(world: Any, known_rows: Any) -> None:
    base = world.copy(
        world.known, "base-eos", "generation_config.json", lambda config: config.update(eos_token_id=None)
    )
    path = base.path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token": "<|endoftext|>"}))
    scores = world.run(Generation(max_new_tokens=60), [base], world.chats(known_rows)).report["scores"]["base-eos"]
    assert (scores["exact_match"], scores["finished"]) == (1, 1)


def test_rows_that_one_model_cannot_take_are_left_out_for_all(world: Any, known_rows: Any) -> None:
    small = world.copy(world.known, "small", "config.json", lambda config: config.update(max_position_embeddings=64))
    rows = [
        *known_rows,
        {"messages": [KIM], "tools": None},
        {"messages": [{"role": "assistant", "content": "hi"}], "tools": None},
    ]
    result = world.run(Generation(max_new_tokens=10), [world.known, small], world.chats(rows))
    fitting = [len(tokenize_chat(world.tokenizer, row["messages"]).ids) <= 64 for row in known_rows]
    assert 0 < sum(fitting) < 3
    assert result.report["rows"] == len(result.answers) == sum(fitting)
    assert result.report["left_out"] == {
        "longer than a context of 64 tokens": 3 - sum(fitting),
        "without an answer of the assistant to a prompt": 2,
    }
    assert "left out 2 of 5 rows: without an answer" in result.log


def test_room_for_the_answer_is_part_of_the_length(world: Any, known_rows: Any) -> None:
    with pytest.raises(StepError, match=r"nothing to measure on.*3 longer than a context of 384 tokens"):
        world.run(Generation(max_new_tokens=380), [world.known], world.chats(known_rows))


def test_what_the_template_refuses_is_left_out_and_counted(world: Any, known_rows: Any) -> None:
    picky = world.copy(world.known, "picky", "config.json", lambda config: None)
    template = picky.path / "chat_template.jinja"
    refusal = "{%- if messages[0].content == 'hello' %}{{ raise_exception('no greetings') }}{%- endif %}"
    template.write_text(refusal + template.read_text())
    result = world.run(Generation(max_new_tokens=60), [picky], world.chats(known_rows))
    assert result.report["left_out"] == {"refused by the chat template": 1}
    assert result.report["scores"]["picky"]["exact_match"] == 1


def test_without_a_held_out_part_the_rest_is_taken_with_a_warning(world: Any, known_rows: Any) -> None:
    result = world.run(Generation(max_new_tokens=5), [world.known], world.chats(known_rows, "train"))
    assert result.report["split"] == "train" and result.report["rows"] == 3
    assert "no held-out part" in result.log


def test_the_first_rows_up_to_the_limit(world: Any, known_rows: Any) -> None:
    result = world.run(Generation(max_new_tokens=5, limit=2), [world.known], world.chats(known_rows))
    assert [answer["prompt"] for answer in result.answers] == [row["messages"][:1] for row in known_rows[:2]]


def test_who_falls_short_is_told_and_why(world: Any, known_rows: Any) -> None:
    method = Generation(max_new_tokens=60, require={"exact_match": 0.9, "finished": 0.5, "perplexity": 1.5})
    report = world.run(method, [world.blank, world.known], world.chats(known_rows)).report
    assert not report["passed"] and list(report["failures"]) == ["blank"]
    exact, finished, perplexity = report["failures"]["blank"]
    assert exact == "exact_match is 0, at least 0.9 is required"
    assert finished == "finished is 0, at least 0.5 is required"
    assert perplexity.startswith("perplexity is ") and perplexity.endswith(", at most 1.5 is required")


def test_what_could_not_be_measured_falls_short(world: Any, known_rows: Any) -> None:
    method = Generation(max_new_tokens=5, require={"record_match": 0})
    report = world.run(method, [world.known], world.chats(known_rows[2:])).report
    assert report["failures"] == {"known": ["record_match could not be measured, at least 0 is required"]}


def test_a_model_named_twice_is_one_subject(world: Any, known_rows: Any) -> None:
    method = Generation(max_new_tokens=2)
    assert world.run(method, [world.known, world.known], world.chats(known_rows)).report["subjects"] == ["known"]


def test_the_same_inputs_give_the_same_bytes(world: Any, known_rows: Any) -> None:
    first, second = (
        world.run(Generation(max_new_tokens=20), [world.blank, world.adapter], world.chats(known_rows))
        for _ in range(2)
    )
    for name in ("report.json", "answers.jsonl"):
        content = (first.out / name).read_text()
        assert content == (second.out / name).read_text() and str(world.folder) not in content


def test_progress_reaches_its_total(world: Any, known_rows: Any) -> None:
    result = world.run(Generation(max_new_tokens=2, batch_size=2), [world.blank, world.known], world.chats(known_rows))
    told = [event for event in result.events if event["event"] == "progress"]
    assert [event["done"] for event in told] == [2, 3, 5, 6, 8, 9, 11, 12]
    assert {event["total"] for event in told} == {12}


@pytest.mark.parametrize(
    "options",
    [
        {"require": {"exactmatch": 0.5}},
        {"require": {"exact_match": 80}},
        {"max_new_tokens": 0},
        {"limit": 0},
        {"dtype": "int8"},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Generation(**options)


def test_what_cannot_work_is_found_before_anything_runs(world: Any) -> None:
    facts = Model.facts(world.known.path)
    assert list(Generation(max_new_tokens=100).check({"models": [facts]})) == []
    assert list(Generation().check({"models": [Facts(Model)], "data": []})) == [], "nothing is known, nothing is said"
    (short,) = Generation(max_new_tokens=384).check({"models": [facts]})
    assert short.field == "max_new_tokens" and "384 tokens" in short.problem
    bare = Facts(Model, facts.config, facts.tensors, world.known.path)
    (untemplated,) = Generation(max_new_tokens=100).check({"models": [facts, bare]})
    assert untemplated.problem.startswith("model 2 of models has no chat template")


def test_answers_are_scored_by_a_reward_model(world: Any, known_rows: Any, tmp_path: Path) -> None:
    judge = new_reward_model(world.known, dtype=torch.float32, seed=3)
    save_model(judge, world.known.path, tmp_path, torch.float32)
    reward_model = RewardModel(tmp_path, "judge")
    method = Generation(max_new_tokens=60, batch_size=2, require={"reward": 1e6})
    result = world.run(method, [world.known, world.blank], world.chats(known_rows), reward_model=reward_model)
    loaded = load_reward_model(reward_model, dtype=torch.float32)
    for row in result.answers:
        for digest, answer in row["answers"].items():
            said = [*row["prompt"], {"role": "assistant", "content": answer}]
            (wanted,) = score(loaded, [chat_ids(world.tokenizer, said)])
            assert row["rewards"][digest] == pytest.approx(wanted, abs=1e-5)
    for digest, scores in result.report["scores"].items():
        mean = sum(row["rewards"][digest] for row in result.answers) / 3
        assert scores["reward"] == pytest.approx(mean, abs=1e-5)
    assert result.report["better"]["reward"] == "higher" and not result.report["passed"]
    assert "reward is" in result.report["failures"]["known"][0]
    done = [event["done"] for event in result.events if event["event"] == "progress"]
    assert done[-1] == 18, "two models answer, and are measured and scored on three rows"
    without = world.run(Generation(max_new_tokens=60), [world.known], world.chats(known_rows))
    assert "rewards" not in without.answers[0] and "reward" not in without.report["scores"]["known"]


def test_a_reward_is_not_asked_for_without_a_reward_model() -> None:
    (finding,) = Generation(require={"reward": 0.0}).check({"models": []})
    assert "there is no reward model" in finding.problem
    given = {"models": [], "reward_model": [Facts(RewardModel)]}
    assert not list(Generation(require={"reward": 0.0}).check(given))
