"""Who may read and who may write: bearer tokens, of which a file tells the digests alone.

A line each: `read` or `write`, then the sha256 of a token as `sha256:<64 digits>`, or the token itself; what follows
is a name for people to know it by. A digest is as good for asking and useless to whoever reads the file, its backup or
the screen; a token has 128 bits or more by chance, so that no slow hash is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tuneforge_registry import RegistryError

Right = Literal["read", "write"]
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_SHORTEST = 16


@dataclass(frozen=True)
class Known:
    """A token by its digest, what it allows, and what it is called."""

    digest: bytes = field(repr=False)
    right: Right
    name: str


@dataclass(frozen=True)
class Tokens:
    known: tuple[Known, ...]

    @classmethod
    def read(cls, file: Path) -> Tokens:
        """The tokens of a file. RegistryError, which never tells a token, for a line that is none."""
        known = []
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise RegistryError(f"{file} is not UTF-8", "write a line each: read or write, and the token") from None
        for number, line in enumerate(lines, 1):
            right, _, rest = line.strip().partition(" ")
            if not right or right.startswith("#"):
                continue
            token, _, name = rest.strip().partition(" ")
            if right not in ("read", "write") or not token:
                problem = f"line {number} of {file} is not `read` or `write` and a token"
                raise RegistryError(problem, "write a line each: read or write, the token, and a name if you like")
            digest = _DIGEST.fullmatch(token)
            if digest is None and (len(token) < _SHORTEST or token.startswith("sha256:")):
                problem = f"the token in line {number} of {file} is too short, or a digest cut short"
                fix = "make one: python -c 'import secrets; print(\"hf_\" + secrets.token_hex(20))'"
                raise RegistryError(problem, fix)
            found = bytes.fromhex(digest[1]) if digest else _digest(token)
            known.append(Known(found, "write" if right == "write" else "read", name.strip() or f"token-{number}"))
        if not known:
            raise RegistryError(f"there is no token in {file}", "write a line each: read or write, and the token")
        return cls(tuple(known))

    def bearer(self, authorization: str) -> Known | None:
        """Whose the header of a request is. Every known token is compared, each in constant time."""
        scheme, _, token = authorization.partition(" ")
        shown = _digest(token.strip()) if scheme.lower() == "bearer" else b""
        found = None
        for known in self.known:
            if hmac.compare_digest(shown, known.digest):
                found = known
        return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
