"""What every method does that learns from answers of the model's own: prompts as tokens, then the training."""

from __future__ import annotations

from itertools import islice
from typing import Any

from tuneforge import Adapter, Model, PromptData, RewardAdapter, RewardModel, Step
from tuneforge.kit.chats import prompt_ids
from tuneforge.kit.rows import read_rows

from ..adapters.reference import make_alike
from ..loading import load_for_training, longest_row, padding_tokenizer, settle_stops
from ..loop import fit, save
from ..rows.tokens import Columns, LeftOutError, Row, lengths, read_tokens, write_tokens
from ..settings import arguments, settle
from ..spread.sharding import strategy_arguments
from ..watching.samples import chat_prompts, write_prompts, written_chats
from .held_out import HELD_OUT_PROMPTS, Answered
from .judge import Judge, tell
from .options import Groups, Online


def prepare(options: Online, model: Model | Adapter, data: PromptData, step: Step) -> None:
    """Writes each prompt as tokens, with what its answers are judged by, into `step.scratch`."""
    tokenizer = padding_tokenizer(model)
    room = longest_row(model, options) - options.max_new_tokens

    def convert(row: Row) -> Columns:
        ids = prompt_ids(tokenizer, row["prompt"], row.get("tools"))
        if len(ids) > room:
            raise LeftOutError(f"longer than {room} tokens, which leaves no room for an answer")
        for rule in options.rewards:
            reason = rule.lacks(row["reference"])
            if reason:
                raise LeftOutError(f"{reason}, for the reward {rule.called}")
        return {"prompt": ids, "told": [tell(row)]}

    def held_out() -> Any:
        return read_rows(data, "held_out")

    write_tokens(read_rows(data, "train"), convert, "train", step)
    write_tokens(islice(held_out(), HELD_OUT_PROMPTS), convert, "held_out", step)
    asked = ((row["prompt"], row.get("tools")) for row in held_out())
    write_prompts(options, chat_prompts(tokenizer, asked), written_chats(tokenizer, options), step)


def align(
    options: Online,
    model: Model | Adapter,
    reward_model: RewardModel | RewardAdapter | None,
    step: Step,
    trainer_of: type[Any],
    config_of: type[Any],
    **own: Any,
) -> None:
    """Fits `model` to its rewards by one of TRL's trainers and writes what comes of it into `step.out`.

    `own` are the settings that only this trainer has.
    """
    settle(step)
    tokenizer = padding_tokenizer(model)
    train, held_out = read_tokens("train", step), read_tokens("held_out", step)
    prompts = train.dataset
    step.metrics(prompts=train.kept, left_out=train.left_out)
    whole = options.adapter is None and isinstance(model, Model)
    rate = options.rate(full=1e-6, adapter=1e-5, is_adapter=not whole)
    sizes = [size for prompt in lengths(prompts, "prompt") for size in options.rows_of(prompt)]
    settings = arguments(options, step, lengths=sizes, learning_rate=rate, model=model)
    settings["per_device_train_batch_size"] *= options.answers_a_row
    settings |= strategy_arguments(step, model)
    adapted = load_for_training(model, options, step, settings["max_steps"])
    stops = settle_stops(adapted.model, model, tokenizer)
    judge = Judge(options, reward_model, tokenizer, stops)
    args = config_of(
        **settings,
        num_generations=options.group,
        generation_batch_size=options.drawn,
        max_completion_length=options.max_new_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        reward_weights=[reward.weight for reward in judge.rewards],
        # What draws an answer must be what learns from it.
        disable_dropout=True,
        remove_unused_columns=False,
        **own,
    )
    trainer = trainer_of(
        model=adapted.model,
        reward_funcs=judge.functions,
        args=args,
        train_dataset=prompts,
        processing_class=tokenizer,
        peft_config=adapted.config,
        callbacks=adapted.callbacks,
    )
    make_alike(trainer.model)
    fit(trainer, options, step, Answered(held_out, judge, options.max_new_tokens, options.drawn))
    if held_out.kept:
        step.metrics(eval_prompts=held_out.kept)
    save(trainer, model, step, adapted)


def of_groups(options: Groups) -> dict[str, Any]:
    """The settings of a trainer that compares the answers of a group."""
    return {
        "num_iterations": options.num_iterations,
        "epsilon": options.epsilon,
        "mask_truncated_completions": options.mask_truncated,
    }
