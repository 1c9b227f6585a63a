"""How the commands of the registry that take long show how far they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from ..console import open_console


@contextlib.contextmanager
def shown(words: str, bytes: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, and the function to be called with what is done and what is to do (bytes, or things)."""
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = DownloadColumn() if bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    console = open_console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(words, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
