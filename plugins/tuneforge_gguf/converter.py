"""llama.cpp's own converter, out of the source archive of llama-cpp-python: downloaded once, never built."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from tuneforge import StepError
from tuneforge.disk import persist

PACKAGE = "llama-cpp-python"
VERSION = "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"

_ARCHIVE = f"llama_cpp_python-{VERSION}.tar.gz"
_INSIDE = PurePosixPath(f"llama_cpp_python-{VERSION}/vendor/llama.cpp")
_PARTS = ("convert_hf_to_gguf.py", "convert_lora_to_gguf.py", "conversion/*.py", "gguf-py/gguf/*.py", "LICENSE")
_BY_HAND = f"Or put {_ARCHIVE} into a folder and name that folder in UV_FIND_LINKS (without a network: UV_OFFLINE=1)."


def present_converter(cache: Path) -> Path | None:
    """The converter's folder in `cache`, if it was fetched before."""
    folder = _folder(cache)
    return folder if folder.exists() else None


def fetch_converter(cache: Path, log: Callable[[str], None]) -> Path:
    """The folder with the converter's two scripts and what they import; fetched into `cache` unless it is there.

    Where the archive lies is asked of uv, so that the person's own index, mirror, find-links folder and proxy are used.
    Raises StepError when there is no way to it, or when it is not the pinned file.
    """
    present = present_converter(cache)
    if present is not None:
        return present
    from filelock import FileLock

    cache.mkdir(parents=True, exist_ok=True)
    folder = _folder(cache)
    with FileLock(cache / f"{folder.name}.lock"):
        if folder.exists():
            return folder
        new = cache / f"{folder.name}.new"
        shutil.rmtree(new, ignore_errors=True)  # half-made: its maker died
        new.mkdir()
        try:
            log(f"fetching llama.cpp's converter: the source archive of {PACKAGE} {VERSION}, once")
            _extract(fetch_sources(new), new / "converter")
            persist(new / "converter")
            (new / "converter").rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return folder


def fetch_sources(folder: Path) -> Path:
    """Downloads the whole archive into a folder, and returns its path. Raises StepError as `fetch_converter` does."""
    _download(_address(), folder / _ARCHIVE)
    return folder / _ARCHIVE


def _folder(cache: Path) -> Path:
    """Named by what it was taken from, and by what was taken."""
    return cache / f"llama.cpp-{VERSION}-{hashlib.sha256(' '.join((SHA256, *_PARTS)).encode()).hexdigest()[:12]}"


def _address() -> str:
    import tomllib

    from uv import find_uv_bin

    command = [find_uv_bin(), "pip", "compile", "-", "--no-deps", "--no-binary", PACKAGE, "--format", "pylock.toml"]
    command += ["--no-header", "--python", sys.executable]
    found = subprocess.run(command, input=f"{PACKAGE}=={VERSION}", capture_output=True, text=True)
    if found.returncode:
        reason = " ".join(line.strip() for line in found.stderr.splitlines()[-4:])
        raise StepError(
            f"no way to the source archive of {PACKAGE} {VERSION}: {reason}",
            f"See whether uv reaches the package index (network, UV_DEFAULT_INDEX, HTTPS_PROXY). {_BY_HAND}",
        )
    (package,) = tomllib.loads(found.stdout)["packages"]
    archive = package.get("sdist", {})
    if archive.get("hashes", {}).get("sha256", SHA256) != SHA256 or "url" not in archive:
        raise StepError(f"the package index has another source archive of {PACKAGE} {VERSION}, or none", _BY_HAND)
    return str(archive["url"])


def _download(address: str, path: Path) -> None:
    import urllib.request  # a plan asks whether the converter is here, and should not wait for what fetches it

    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(address, timeout=60) as response, path.open("wb") as file:
            while block := response.read(1 << 20):
                digest.update(block)
                file.write(block)
    except OSError as error:
        raise StepError(f"{address} cannot be read: {error}", f"Try again when it can. {_BY_HAND}") from error
    if digest.hexdigest() != SHA256:
        raise StepError(f"{address} is not the expected archive: its sha256 is {digest.hexdigest()}", _BY_HAND)


def _extract(archive: Path, folder: Path) -> None:
    import tarfile

    folder.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if path.is_relative_to(_INSIDE) and _wanted(path.relative_to(_INSIDE)):
                tar.extract(member.replace(name=str(path.relative_to(_INSIDE))), folder, filter="data")


def _wanted(path: PurePosixPath) -> bool:
    return any(len(path.parts) == part.count("/") + 1 and path.match(part) for part in _PARTS)


def converter_cache() -> Path:
    """Where the converter is kept: it is the same for every project of a person."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tuneforge"
