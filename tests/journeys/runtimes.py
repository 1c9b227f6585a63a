"""Whether a GGUF file answers in llama.cpp as the model that it was made of answers in transformers.

Run as: python -m tests.journeys.runtimes HOME MODEL GGUF CHATS [COUNT]     references into the registry HOME
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tuneforge import ChatData, Manner, Message, Model, Voice
from tuneforge.kit.chats import prompt_ids
from tuneforge.kit.models import load_tokenizer
from tuneforge.kit.rows import read_rows
from tuneforge_chat import engine
from tuneforge_gguf import talking
from tuneforge_registry import Registry


@dataclass
class Agreement:
    """Of how many prompts, how many have the same tokens and how many the same answer; and those that have not."""

    prompts: int = 0
    same_tokens: int = 0
    same_answers: int = 0
    different: list[str] = field(default_factory=list)


def agreement(registry: Registry, model: str, gguf: str, chats: str, count: int = 100) -> Agreement:
    """Compares greedy answers to the first held-out prompts, as `tuneforge chat` gives them."""
    merged = Model(_tree(registry, model), model)
    tokenizer = load_tokenizer(merged)
    one, other = engine.Loaded(merged, 1, None), talking.Loaded(_tree(registry, gguf), 1, None)
    found = Agreement()
    for messages in islice(_prompts(ChatData(_tree(registry, chats), chats)), count):
        found.prompts += 1
        found.same_tokens += other.prompt(messages) == prompt_ids(tokenizer, messages)
        answers = _answer(one, messages), _answer(other, messages)
        found.same_answers += answers[0] == answers[1]
        if answers[0] != answers[1]:
            found.different.append(f"{messages[-1]['content']!r}: {answers[0]!r}, and in llama.cpp {answers[1]!r}")
    return found


def _tree(registry: Registry, ref: str) -> Path:
    return registry.tree(registry.resolve(ref))


def _prompts(chats: ChatData) -> Iterator[list[Message]]:
    """Conversations up to their last answer; each prompt once."""
    seen = set()
    for row in read_rows(chats, "held_out"):
        prompt = [Message(role=said["role"], content=said["content"]) for said in row["messages"][:-1]]
        if str(prompt) not in seen:
            seen.add(str(prompt))
            yield prompt


def _answer(voice: Voice, messages: Sequence[Message]) -> str:
    return "".join(voice.reply(messages, Manner(128)))


if __name__ == "__main__":
    home, *refs = sys.argv[1:5]
    told = agreement(Registry(Path(home)), *refs, *map(int, sys.argv[5:]))
    print(*told.different, sep="\n")
    print(f"of {told.prompts} prompts, {told.same_tokens} have the same tokens, {told.same_answers} the same answer")
