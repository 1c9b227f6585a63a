"""Run records: plain JSON documents that tell how artifacts came to be.

What is read of them here: `started` (ISO 8601), `status`, and of each of `steps` its `name`, `digest`, `inputs`,
`status`, and, to search by what it was made of, `stage` and `config`; `path`, `folder` and any `traceback` are places
of the machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from tuneforge_registry import files
from tuneforge_registry.errors import RegistryError
from tuneforge_registry.manifests import is_digest

LOCKED = "run-"  # how the names of the locks of runs begin


def location(home: Path, run_id: str) -> Path:
    return home / "runs" / f"{check_id(run_id)}.json"


def folder(home: Path, run_id: str) -> Path:
    return home / "runs" / check_id(run_id)


def write(home: Path, run_id: str, record: Mapping[str, Any]) -> None:
    files.replace(home, location(home, run_id), text(record))


def text(record: Mapping[str, Any]) -> str:
    """A record as it is stored."""
    return json.dumps(dict(record), ensure_ascii=False, indent=1) + "\n"


def portable(home: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without the places of the machine where it was written: as it leaves, and as it is taken in.

    What lies in the folders of the run is told relative to them; the recipe stays as somebody wrote it.
    """
    folders = {str(home), str(record.get("folder", "")), str(Path(str(record.get("path", ""))).parent)}
    above = "|".join(re.escape(folder) for folder in sorted(folders, key=len, reverse=True) if folder.count("/") > 1)
    places = re.compile(rf"(?<![\w/.-])(?:{above})(?:/|(?![\w.-]))" if above else "(?!)")
    return {
        name: value if name in _WRITTEN else _without(places, value)
        for name, value in record.items()
        if name not in ("folder", "path")
    }


_WRITTEN = ("data", "file", "settings")
_TEXTS = ("file", "folder", "path", "recipe", "started", "status")
_TEXTS_OF_STEP = ("error", "method", "name", "stage", "status")
_TABLES_OF_STEP = ("config", "inputs", "metrics", "wires")


def is_record(record: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a document from elsewhere has the form of a record, as far as it tells what records tell."""
    return (
        _are(str, record, _TEXTS)
        and _are(dict, record, ("environments", "machine"))
        and _are(list, record, ("settings", "steps"))
        and all(isinstance(setting, str) for setting in record.get("settings") or ())
        and all(isinstance(packages, dict) for packages in (record.get("environments") or {}).values())
        and all(
            _are(str, step, _TEXTS_OF_STEP) and _are(dict, step, _TABLES_OF_STEP) for step in record.get("steps") or ()
        )
    )


def _are(kind: type, document: Any, names: tuple[str, ...]) -> bool:
    return isinstance(document, dict) and all(isinstance(document.get(name), (kind, type(None))) for name in names)


def _without(places: re.Pattern[str], value: Any) -> Any:
    if isinstance(value, str):
        return places.sub("", value)
    if isinstance(value, dict):
        return {name: _without(places, inner) for name, inner in value.items() if name != "traceback"}
    return [_without(places, inner) for inner in value] if isinstance(value, list) else value


def read(home: Path, run_id: str) -> dict[str, Any]:
    path = location(home, run_id)
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RegistryError(f"no run {run_id} in {home}", f"runs are recorded in {home / 'runs'}") from None
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise RegistryError(f"the run record {path} is damaged", "restore it from a backup, or delete it")
    return record


def lock_name(run_id: str) -> str:
    """The lock that a run holds while it lives."""
    return f"{LOCKED}{check_id(run_id)}"


def now(home: Path, run_id: str, record: dict[str, Any]) -> dict[str, Any]:
    """A record as it is to be told: a run that wrote that it is running, and was killed, is interrupted."""
    if record.get("status") == "running":
        from tuneforge_registry import locks

        if not locks.held(home, lock_name(run_id)):
            record = read(home, run_id)  # it may have ended since the record was read
            if record.get("status") == "running":
                return record | {"status": "interrupted"}
    return record


def ids(home: Path) -> list[str]:
    return [name.removesuffix(".json") for name in files.listing(home / "runs") if name.endswith(".json")]


def newest_first(home: Path) -> dict[str, dict[str, Any]]:
    """Records by run id. A damaged one is left out here, and reported by `verify`."""
    found = {}
    for run_id in ids(home):
        try:
            found[run_id] = now(home, run_id, read(home, run_id))
        except RegistryError:
            continue
    order = sorted(found, key=lambda run_id: (started(found[run_id]), run_id), reverse=True)
    return {run_id: found[run_id] for run_id in order}


def started(record: Mapping[str, Any]) -> str:
    return str(record.get("started", ""))


def steps(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The steps of a record that gave an artifact."""
    found = record.get("steps")
    for step in found if isinstance(found, list) else ():
        if isinstance(step, dict) and isinstance(step.get("digest"), str) and is_digest(step["digest"]):
            yield step


def inputs(step: Mapping[str, Any]) -> dict[str, list[str]]:
    """The digests that went into a step, by parameter."""
    found = step.get("inputs")
    return {
        parameter: [digest for digest in digests if isinstance(digest, str) and is_digest(digest)]
        for parameter, digests in (found if isinstance(found, dict) else {}).items()
        if isinstance(digests, list)
    }


def words(config: Any) -> Iterator[str]:
    """Every text in a step's configuration."""
    if isinstance(config, str):
        yield config
    elif isinstance(config, (dict, list)):
        for value in config.values() if isinstance(config, dict) else config:
            yield from words(value)


def check_id(run_id: str) -> str:
    """The id itself, if it can be one."""
    if run_id.endswith(".json"):  # its folder would be another run's record
        raise RegistryError(f"{run_id!r} cannot be a run id", "leave out the '.json'")
    return files.plain("a run id", run_id)
