"""What a client may not bring into the registry, whatever its digest."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Collection
from pathlib import Path

from tuneforge_registry.errors import RegistryError
from tuneforge_registry.manifests import check_path
from tuneforge_registry_server.errors import bad

_PICKLES = (".bin", ".ckpt", ".dill", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth")
_PICKLED = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_HEADER = 100 << 20


def check_name(path: str, allow_pickle: Collection[str]) -> None:
    """HubError unless a file may be called so."""
    try:
        check_path(path)
    except RegistryError as error:
        raise bad(f"{error.problem}: {error.fix}") from None
    if len(path.encode()) > 1000 or any(len(part.encode()) > 250 for part in path.split("/")):
        raise bad(f"the path {path[:80]!r}... is too long")
    if any(not sign.isprintable() for sign in path):
        raise bad(f"the path {path!r} has signs that nobody sees")
    if path not in allow_pickle and path.lower().endswith(_PICKLES):
        raise _pickle(path)


def check_content(path: str, file: Path, allow_pickle: Collection[str]) -> None:
    """HubError unless a file may come in under that name."""
    with file.open("rb") as opened:
        start = opened.read(64)
        if path.endswith(".safetensors"):
            _check_safetensors(path, file)
        elif path not in allow_pickle and (start[:2] in _PICKLED or _torch_archive(file)):
            raise _pickle(path)


def _pickle(path: str) -> Exception:
    return bad(
        f"{path} is a pickle, which runs code wherever it is opened: save safetensors instead; "
        f"who trusts it starts the server with --allow-pickle {path}"
    )


def _torch_archive(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith((".pkl", ".pickle")) for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def _check_safetensors(path: str, file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(8)
        (length,) = struct.unpack("<Q", start) if len(start) == 8 else (0,)
        if not 2 <= length <= min(_HEADER, size - 8):
            raise bad(f"{path} is no safetensors file: its header is cut short")
        try:
            header = json.loads(opened.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            whole = max(ends, default=0) == size - 8 - length
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            whole = False
    if not whole:
        raise bad(f"{path} is no safetensors file: its header does not fit its content")
