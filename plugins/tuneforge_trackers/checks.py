"""What several trackers look at before anything runs."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tuneforge import Finding

_PATIENCE = 2.0  # seconds in which a server has to answer
_PORTS = {"http": 80, "https": 443}


def writable(folder: Path, field: str) -> Iterator[Finding]:
    """A finding if nothing can be written into a folder, which may still have to be made."""
    there = next(above for above in (folder, *folder.parents) if above.exists())
    if not there.is_dir():
        yield Finding(f"{there} is no folder", "Name another folder.", field=field)
    elif not os.access(there, os.W_OK | os.X_OK):
        yield Finding(f"{there} cannot be written", "Name another folder.", field=field)


def answering(address: str, field: str, fix: str) -> Iterator[Finding]:
    """A finding if nobody listens at the address of a server; one that is slow to answer is a warning."""
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 443)
    try:
        socket.create_connection((host, port), _PATIENCE).close()
    except TimeoutError:
        problem = f"{host}:{port} did not answer within {_PATIENCE:.0f} s"
        yield Finding(problem, fix, level="warning", field=field)
    except OSError as error:
        yield Finding(f"nothing answers at {host}:{port}: {error.strerror or error}", fix, field=field)
