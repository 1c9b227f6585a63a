"""Chat templates told from what they write, and put into other template languages."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import jinja2

from tuneforge.kit.templates import Messages, render

_USER = ("What is 17 * 23?", "  {{ Two }} {% lines %},\n\n``` and spaces \u2014 ", "0")
_SAID = ("391", '\nAs asked: {"a": [1]}\n', "<b>Yes</b> ")
_SYSTEMS: tuple[list[dict[str, Any]], ...] = (
    [],
    [{"role": "system", "content": "Be brief."}],
    [{"role": "system", "content": ' Answer in\n"JSON" '}],
)
_EXCHANGE: tuple[dict[str, Any], ...] = tuple(
    {"role": role, "content": text}
    for question, answer in zip(_USER, _SAID, strict=True)
    for role, text in (("user", question), ("assistant", answer))
)
CONVERSATIONS: tuple[Messages, ...] = tuple(
    [*system, *_EXCHANGE[:length]] for system in _SYSTEMS for length in (1, 3, 5)
)
"""With and without a system message, of one, two and three turns, up to the answer."""


def told_day(form: str) -> str:
    """`strftime_now` as of a fixed day, for whoever compares what templates write."""
    return _DAY.strftime(form)


_DAY, _ANOTHER = datetime(2024, 7, 26, 9, 41), datetime(2025, 11, 9, 20, 15, 30)


@dataclass(frozen=True)
class Turns:
    """A chat template that writes fixed text around what each message says, and nothing else.

    Each role has the text before and after; it has none if the template refuses it. `opening` stands ahead of a
    conversation without a system message; `system` is of one at the beginning, with all that stands before it, and
    `later` of any other. `generation` stands ahead of the answer.
    """

    opening: str
    system: tuple[str, str] | None
    later: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]
    generation: str

    def render(self, messages: Messages) -> str:
        """What the template makes of a conversation, up to the answer."""
        text = [] if messages[0]["role"] == "system" else [self.opening]
        around = {"system": self.later, "user": self.user, "assistant": self.assistant}
        for place, message in enumerate(messages):
            first = place == 0 and message["role"] == "system"
            before, after = (self.system if first else around[message["role"]]) or ("", "")
            text += [before, message["content"], after]
        return "".join([*text, self.generation])

    def in_go(self) -> str:
        """The same in Go's template language, with Ollama's variables, and without white space of its own."""
        branches = {'eq .Role "user"': self.user, 'eq .Role "assistant"': self.assistant}
        if self.system and self.system == self.later:
            branches['eq .Role "system"'] = self.system
        else:
            branches |= {'and (eq $i 0) (eq .Role "system")': self.system} if self.system else {}
            branches |= {'and (ne $i 0) (eq .Role "system")': self.later} if self.later else {}
        turns = " else ".join(
            f"{condition} }}}}{_go(before)}{{{{ .Content }}}}{_go(after)}{{{{"
            for condition, (before, after) in branches.items()
        ).replace("{{ else ", "{{ else if ")
        opening = _go(self.opening)
        if opening and self.system:
            opening = f'{{{{ if ne (index .Messages 0).Role "system" }}}}{opening}{{{{ end }}}}'
        every = f"{{{{ range $i, $_ := .Messages }}}}{{{{ if {turns} end }}}}{{{{ end }}}}"
        return f"{opening}{every}{_go(self.generation)}"


def turns_of(template: str, *, bos: str = "", eos: str = "", adds_bos: bool = False) -> Turns | str:
    """A template as `Turns`, found by what it writes and proved on CONVERSATIONS; or why it is none.

    `adds_bos`: the engine puts the BOS token ahead by itself, so that the turns go without.
    """

    def written(messages: Messages, answer: bool = True, now: Callable[[str], str] = told_day) -> str:
        text = render(template, messages, bos=bos, eos=eos, answer=answer, strftime_now=now)
        if adds_bos and not (bos and text.startswith(bos)):
            raise jinja2.TemplateError("the GGUF file has a BOS token put ahead, which the template does not write")
        return text.removeprefix(bos) if adds_bos else text

    try:
        turns = _found(written)
    except jinja2.TemplateError as error:
        return f"the chat template cannot be translated: {error}"
    if turns is None:
        return "the chat template is more than fixed text around each message"
    for messages in CONVERSATIONS:
        if messages[0]["role"] == "system" and turns.system is None:
            continue
        if written(messages) != written(messages, now=_ANOTHER.strftime):
            return "the chat template tells the day"
        if written(messages) != turns.render(messages):
            return "the chat template does more than put text around each message: it strips white space, perhaps"
    return turns


def answer_end(template: str, special: Sequence[str], *, bos: str = "", eos: str = "") -> str | None:
    """The one of the special tokens that a template ends an answer with; None if it is none of them."""
    exchange = [{"role": "user", "content": "Aq1"}, {"role": "assistant", "content": "Bq2"}]
    with suppress(jinja2.TemplateError):
        end = render(template, exchange, bos=bos, eos=eos, answer=False).partition("Bq2")[2].lstrip()
        return max((token for token in special if token and end.startswith(token)), key=len, default=None)
    return None


def _found(written: Callable[..., str]) -> Turns | None:
    """The turns by which a template seems to write; None if they cannot be told apart."""
    question, more = {"role": "user", "content": "Aq1"}, {"role": "user", "content": "Cq3"}
    said, system = {"role": "assistant", "content": "Bq2"}, {"role": "system", "content": "Sq0"}
    head, _, question_end = written([question], answer=False).partition("Aq1")
    answer_end = written([question, said], answer=False).partition("Bq2")[2]
    whole = re.fullmatch("(.*)Aq1(.*)Bq2(.*)Cq3(.*)", written([question, said, more]), re.DOTALL)
    if not whole:
        return None
    opened, to_answer, to_question, end = whole.groups()
    user, assistant = to_question.removeprefix(answer_end), to_answer.removeprefix(question_end)
    known = Turns(
        opening=head.removesuffix(user),
        system=None,
        later=None,
        user=(user, question_end),
        assistant=(assistant, answer_end),
        generation=end.removeprefix(question_end),
    )
    # Each piece was where it was looked for, or nothing is told by what is left.
    if (opened, to_answer, to_question) != (head, question_end + assistant, answer_end + user):
        return None
    if not head.endswith(user) or end != question_end + known.generation:
        return None
    with suppress(jinja2.TemplateError):
        first = re.fullmatch("(.*)Sq0(.*)Aq1(.*)", written([system, question]), re.DOTALL)
        if first is None or not first[2].endswith(user) or first[3] != end:
            return None  # the system message has its place within the first question, say
        known = replace(known, system=(first[1], first[2].removesuffix(user)))
        later = re.fullmatch("(.*)Bq2(.*)Sq0(.*)Aq1(.*)", written([more, said, system, question]), re.DOTALL)
        if later and later[2].startswith(answer_end) and later[3].endswith(user) and later[4] == end:
            known = replace(known, later=(later[2].removeprefix(answer_end), later[3].removesuffix(user)))
    return known


def _go(text: str) -> str:
    # A brace at the end would be one with those of what follows.
    return re.sub(r"\{\{|\{\Z", lambda braces: f'{{{{ "{braces[0]}" }}}}', text)
