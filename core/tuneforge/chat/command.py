"""`tuneforge chat`: a conversation at the terminal, or one question from standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tuneforge_registry import Registry

from ..console import wants_colour
from ..errors import DONE, INTERRUPTED, STEP_FAILED, RefusedError
from ..plugins import Plugins
from ..speakers import Manner
from .conversation import Conversation
from .partners import find_partners, talks
from .screen import Screen
from .session import Session


def chat(
    refs: Sequence[str],
    registry: Registry,
    *,
    system: str,
    manner: Manner,
    threads: int,
    context: int | None,
    debug: bool,
) -> int:
    """Holds a chat and gives the exit code. Where standard input is no terminal, all of it is one question.

    Raises RefusedError for what cannot be talked to, and TuneforgeError for what cannot be loaded.
    """
    screen = Screen(refs)
    try:
        plugins = Plugins()
        partners = find_partners(refs, registry, plugins)
        question = None if sys.stdin and sys.stdin.isatty() else _read_question()
        with (
            registry.workspace(),  # what is talked to stays in the registry meanwhile
            talks(
                partners,
                registry,
                plugins,
                threads=threads,
                context=context,
                log=screen.note,
                debug=debug,
            ) as opened,
        ):
            for talk in opened:
                screen.wait(f"loading {talk.partner.label}")
                talk.wait()
            screen.wait(None)
            conversation = Conversation(opened, manner, system)
            if question is not None:
                return DONE if conversation.ask(question, screen) else STEP_FAILED
            for partner in partners:
                screen.note(f"{partner.label}: {partner.kind} {partner.digest[:12]}")
            Session(conversation, screen, coloured=wants_colour() is not False).hold()
            return DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        screen.wait(None)


def _read_question() -> str:
    try:
        text = sys.stdin.buffer.read().decode("utf-8").strip("\r\n") if sys.stdin else ""
    except UnicodeDecodeError as error:
        raise RefusedError(f"standard input is not UTF-8: {error.reason} at byte {error.start}") from error
    if not text.strip():
        raise RefusedError("standard input is empty", "Pipe a question into it, or run the command in a terminal.")
    return text
