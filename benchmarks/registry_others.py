"""The Hub's cache and MLflow's model registry, with as much in them as ours has, asked for the same."""

from __future__ import annotations

import hashlib
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

_NAMED = 10  # versions of a name


def hub_cache(folder: Path, count: int, files: int) -> dict[str, dict[str, float]]:
    """Repositories of one revision each, laid out as a download leaves them."""
    from huggingface_hub import scan_cache_dir, snapshot_download

    cache = folder / "hub"
    revision = "0" * 40
    for number in range(count):
        repository = cache / f"models--team--model-{number}"
        snapshot = repository / "snapshots" / revision
        for made in (repository / "blobs", snapshot, repository / "refs"):
            made.mkdir(parents=True)
        (repository / "refs" / "main").write_text(revision)
        chance = random.Random(number)
        for name in range(files):
            content = chance.randbytes(1024)
            blob = hashlib.sha256(content).hexdigest()
            (repository / "blobs" / blob).write_bytes(content)
            (snapshot / f"file-{name}").symlink_to(f"../../blobs/{blob}")

    def look_up() -> object:
        return snapshot_download(f"team/model-{count // 2}", cache_dir=cache, local_files_only=True)

    return {
        "huggingface_hub": {
            "list all": _median(lambda: scan_cache_dir(cache), 3),
            "look up one": _median(look_up),
        }
    }


def mlflow_registry(folder: Path, count: int) -> dict[str, dict[str, float]]:
    """As many versions in its SQLite store as we have names for; of the files it only knows where they are."""
    import logging

    from mlflow import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    store = f"sqlite:///{folder / 'mlflow.sqlite'}"
    client = MlflowClient(tracking_uri=store, registry_uri=store)
    began = time.perf_counter()
    for number in range(count):
        name = f"model-{number // _NAMED:05}"
        if number % _NAMED == 0:
            client.create_registered_model(name)
        client.create_model_version(name, f"{folder}/artifacts/{number}")
    added = (time.perf_counter() - began) / count

    def list_all() -> int:
        found, token = 0, None
        while True:
            page = client.search_model_versions(max_results=10_000, page_token=token)
            found, token = found + len(page), page.token
            if not token:
                return found

    assert list_all() == count
    return {
        "MLflow (SQLite)": {
            "list all": _median(list_all, 3),
            "look up one": _median(lambda: client.get_model_version(f"model-{count // _NAMED // 2:05}", "3").source),
            "add one": added,
        }
    }


def _median(work: Callable[[], object], rounds: int = 5) -> float:
    work()
    seen = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        seen.append(time.perf_counter() - began)
    return statistics.median(seen)
