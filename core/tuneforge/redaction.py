"""Keeping tokens and secrets out of what is written down: records, logs, lineages and cards.

What counts as one: the value of an environment variable that is called so, what tokens of known services look like,
credentials in an address, and what is given to an option or parameter called token, password, secret or API key.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

REDACTED = "[secret]"
"""What stands where a secret stood."""

_WORDS = frozenset({"TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "KEY", "APIKEY", "CREDENTIALS", "PAT"})
_RANDOM = re.compile(r"(?=.*[0-9A-Z])(?=.*[A-Za-z])(?=.*[0-9a-z])\S{16,}$")
_SHORTEST = 8
"""Letters of a variable's value; what is shorter stands in many a text."""
_WORD = re.compile(r"[A-Za-z]+|[0-9]+")
"""A value that may stand inside of another word, or number: it is one only where it stands alone."""

_NAMES = (
    r"(?:[A-Za-z0-9]+[_-])*(?:api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key|auth[_-]?token|access[_-]?token"
    r"|api[_-]?token|hub[_-]?token|hf[_-]?token|refresh[_-]?token|password|passwd|passphrase|client[_-]?secret)"
    r"|token|secret|apikey|sig(?:nature)?|x-amz-(?:signature|credential|security-token)"
)
"""Of options and parameters. Not any word with token in it: pad_token and max_new_tokens are none."""

_PATTERNS = re.compile(
    r"""
      (?P<address> \b[A-Za-z][A-Za-z0-9+.-]{0,30}:// ) (?!git@) [^\s/@"'<>]+ @  # https://user:token@host
    | (?P<named> (?<![A-Za-z0-9_-]) (?i:NAMES) ["']? \s* [:=] \s* ["']? )       # token: ..., ?access_token=...
      (?! [+-]?[0-9]+ (?: \.[0-9]+ (?:e[+-]?[0-9]+)? | e[+-]?[0-9]+ ) \.? (?![^\s"'&,;(){}<>]) )  # loss/token: 0.25
      (?= [^\s"'&,;(){}<>]{0,200}[0-9] ) [^\s"'&,;(){}<>$]{12,}
    | (?P<bearer> \b (?i:bearer|basic) \s+ ) [A-Za-z0-9._~+/=-]{12,}            # Authorization: Bearer ...
    | \b (?: hf_[A-Za-z0-9]{20,} | api_org_[A-Za-z0-9]{20,} | sk-[A-Za-z0-9_-]{20,} | gh[opsur]_[A-Za-z0-9]{20,}
        | github_pat_\w{20,} | glpat-[\w-]{16,} | xox[abeoprs]-[A-Za-z0-9-]{10,} | (?:AKIA|ASIA)[A-Z0-9]{16}
        | AIza[\w-]{30,} | eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,} )
    """.replace("NAMES", _NAMES),
    re.VERBOSE,
)


def redacted_text(text: str, also: Iterable[str] = ()) -> str:
    """A text without the secrets that are known to be ones, with those of `also`, or look like it."""
    return _clean(text, _values(also))


def redacted(value: Any, also: Iterable[str] = ()) -> Any:
    """The same of every text in a JSON value, names included."""
    return _cleaned(value, _values(also))


def secrets_of(config: Any) -> Iterator[str]:
    """The values of those options in a configuration, or a whole recipe, that are called secrets."""
    if isinstance(config, Mapping):
        for name, value in config.items():
            if _is_secret(name, value):
                yield str(value)
            else:
                yield from secrets_of(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from secrets_of(value)


def secret_in(content: bytes) -> str:
    """The environment variable called a secret whose value is in a file, if there is one; else nothing.

    A value that could be a word, and stand in any file, does not count.
    """
    return next(
        (
            name
            for name, value in _named_so()
            if _RANDOM.match(value) and value.encode(errors="surrogateescape") in content
        ),
        "",
    )


def _clean(text: str, values: Sequence[str]) -> str:
    for value in values:
        if value in text:
            text = _alone(value).sub(REDACTED, text) if _WORD.fullmatch(value) else text.replace(value, REDACTED)
    return _PATTERNS.sub(_without, text)


@cache
def _alone(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.-]){word}(?![\w-]|\.\w)")


def _without(found: re.Match[str]) -> str:
    if found["address"]:
        return f"{found['address']}{REDACTED}@"
    return f"{found['named'] or found['bearer'] or ''}{REDACTED}"


def _cleaned(value: Any, values: Sequence[str]) -> Any:
    if isinstance(value, str):
        return _clean(value, values)
    if isinstance(value, Mapping):
        secret = [value for value in values if not _WORD.fullmatch(value)]  # what is called like a word is still found
        return {_cleaned(name, secret): _option(name, inner, values) for name, inner in value.items()}
    return [_cleaned(inner, values) for inner in value] if isinstance(value, (list, tuple)) else value


def _option(name: Any, value: Any, values: Sequence[str]) -> Any:
    return REDACTED if _is_secret(name, value) else _cleaned(value, values)


def _is_secret(name: Any, value: Any) -> bool:
    """Of an option that is called so, any text that can be a secret is one."""
    known = isinstance(name, str) and isinstance(value, str) and len(value) >= _SHORTEST
    return known and value != REDACTED and _CALLED.fullmatch(name) is not None


_CALLED = re.compile(_NAMES, re.IGNORECASE)


def _named_so() -> list[tuple[str, str]]:
    return [
        (name, line)
        for name, value in os.environ.items()
        if not _WORDS.isdisjoint(name.upper().split("_")) and not _is_place(value)
        for line in _lines(value)
    ]


def _lines(value: str) -> list[str]:
    """Each line of a secret by itself, as a log sees it: a key is many, and a token from a file ends with a newline."""
    return [line.strip() for line in value.splitlines() if len(line.strip()) >= _SHORTEST]


def _is_place(value: str) -> bool:
    """Whether it only says where a secret is."""
    return value.startswith("/") and os.path.lexists(value)


def _values(also: Iterable[str]) -> list[str]:
    """The longest first: one may be the beginning of another."""
    given = {line for value in also for line in _lines(value)}
    return sorted({value for _, value in _named_so()} | given, key=len, reverse=True)


_HOLD = 0.25
"""Seconds that the beginning of a line is held back, so that a secret is seen whole."""
_LINE = 1 << 16
_DESCRIPTORS = 1 << 20
"""Where the system sets no bound to them, or one of billions."""


class Log:
    """Has everything that is written to `descriptor` go to a file, without secrets, through a process of its own.

    That process lives as long as anybody can write: what a step that is killed has said last is in the file too.
    """

    def __init__(self, path: Path, also: Iterable[str] = ()) -> None:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        reading, self.descriptor = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.setsid()  # what kills the writers spares it
                os.dup2(reading, 0)
                os.dup2(file, 1)
                most = os.sysconf("SC_OPEN_MAX")
                os.closerange(2, most if 0 < most < _DESCRIPTORS else _DESCRIPTORS)
                _pour(0, 1, _values(also))
            finally:
                os._exit(0)
        os.close(reading)
        os.close(file)

    def close(self) -> None:
        """Ends the writing from here."""
        os.close(self.descriptor)

    def wait(self, seconds: float = 5.0) -> None:
        """Waits until all is in the file, unless somebody is left who writes on."""
        until = time.monotonic() + seconds
        while os.waitpid(self._pid, os.WNOHANG)[0] == 0 and time.monotonic() < until:
            time.sleep(0.001)


def _pour(source: int, target: int, values: Sequence[str]) -> None:
    held, lost = b"", 0
    while True:
        ready = select.select([source], [], [], _HOLD if held else None)[0]
        said = os.read(source, _LINE) if ready else b""
        held += said
        end = len(held) if not said or len(held) > _LINE else max(held.rfind(b"\n"), held.rfind(b"\r")) + 1
        if end:
            text = held[:end].decode(errors="surrogateescape")
            lost = _put(target, _clean(text, values).encode(errors="surrogateescape"), lost)
            held = held[end:]
        if ready and not said:
            return


def _put(target: int, words: bytes, lost: int) -> int:
    """Writes all of it, after a word of what was `lost` before; gives the bytes that are lost by now.

    A step must not end because there is no room for what it says.
    """
    if lost and _write(target, f"[{lost} bytes could not be written here]\n".encode()):
        return lost + len(words)
    return len(_write(target, words))


def _write(target: int, words: bytes) -> bytes:
    """Gives what could not be written."""
    with contextlib.suppress(OSError):
        while words:
            words = words[os.write(target, words) :]
    return words
