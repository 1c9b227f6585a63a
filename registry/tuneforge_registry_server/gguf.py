"""Which GGUF file of a repository llama.cpp's `-hf` means, as its releases of 2025 ask the Hub.

Newer ones read the list of files and choose themselves (common/hf-cache.cpp and download.cpp of llama.cpp); what is
chosen here is what they would choose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tuneforge_registry_server.addresses import called, part
from tuneforge_registry_server.errors import no_entry
from tuneforge_registry_server.repositories import MAIN, Repositories

_ASIDE = ("mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")
"""What stands in the names of GGUF files that go with a model and are none."""
_PART = re.compile(r"-(\d{5})-of-\d{5}\.gguf$", re.IGNORECASE)
_PREFERRED = ("Q4_K_M", "Q8_0")


class Gguf:
    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories

    def manifest(self, request: Request) -> Response:
        """The file of a quantization type, such as Q4_K_M; of `latest`, the one that is preferred."""
        repository = self._repositories.find("model", called(part(request, "id")))
        tag = part(request, "tag")
        version = repository.at(MAIN)
        path = chosen(version.files, "" if tag == "latest" else tag)
        if path is None:
            raise no_entry(repository.name, f"*{tag}*.gguf")
        document = {"ggufFile": {"rfilename": path, "size": version.files[path].size}}
        if beside := min((path for path in version.files if path.endswith(".gguf") and "mmproj" in path), default=None):
            document["mmprojFile"] = {"rfilename": beside, "size": version.files[beside].size}
        return JSONResponse(document)


def chosen(paths: Iterable[str], tag: str) -> str | None:
    """The model of that type, or of a preferred type, or the first; of one in several files, the first of them."""
    models = [path for path in paths if _is_model(path)]
    for wanted in (tag,) if tag else _PREFERRED:
        named = re.compile(re.escape(wanted) + "[.-]", re.IGNORECASE)
        for path in models:
            if named.search(path):
                return path
    return None if tag else next(iter(models), None)


def _is_model(path: str) -> bool:
    piece = _PART.search(path)
    name = path.rpartition("/")[2]
    return path.endswith(".gguf") and not any(word in name for word in _ASIDE) and (not piece or int(piece[1]) == 1)
