"""A release on its way to the Hub: which content goes to which path. Nothing is copied."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..release import Draft


class Shipment(Draft):
    """A release whose files stay where they are. `contents` has the file, or the bytes, of every path."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.contents: dict[str, Path | bytes] = {}

    def copy(self, source: Path, path: str) -> None:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._add(path, source, digest, source.stat().st_size)

    def write(self, path: str, text: str) -> None:
        content = text.encode()
        self._add(path, content, hashlib.sha256(content).hexdigest(), len(content))

    def text(self, path: str) -> str:
        """A file that was written."""
        content = self.contents[path]
        return content.read_text(encoding="utf-8") if isinstance(content, Path) else content.decode()

    def git_oid(self, path: str) -> str:
        """What git calls the content of a file: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects."""
        digest = hashlib.sha1(b"blob %d\0" % self.files[path]["size"], usedforsecurity=False)
        content = self.contents[path]
        if isinstance(content, bytes):
            digest.update(content)
        else:
            with content.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        return digest.hexdigest()

    def _add(self, path: str, content: Path | bytes, sha256: str, size: int) -> None:
        self.contents[path] = content
        self.files[path] = {"sha256": sha256, "size": size}
