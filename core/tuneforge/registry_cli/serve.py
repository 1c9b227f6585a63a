"""`tuneforge registry serve`: the registry for tools that speak the Hugging Face Hub's protocol."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuneforge_registry import Registry, RegistryError

from ..errors import RefusedError
from .common import open_registry

if TYPE_CHECKING:
    from tuneforge_registry_server import Kinds, Tokens

_NEEDED = ("lz4", "starlette", "uvicorn", "yaml")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; elsewhere tokens are asked for.")
@click.option("--port", type=click.IntRange(0, 65535), default=8800, show_default=True, help="0 takes a free one.")
@click.option(
    "--tokens",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Ask clients for one of the tokens in this file: a line each, `read` or `write`, and the token or its sha256.",
)
@click.option("--read-only", is_flag=True, help="Let nobody change anything.")
@click.option(
    "--allow-pickle",
    multiple=True,
    metavar="PATH",
    help="Take files of this path though they are pickles, which run code wherever they are opened. Repeatable.",
)
@click.pass_obj
def serve(
    obj: dict[str, Any], host: str, port: int, tokens: Path | None, read_only: bool, allow_pickle: tuple[str, ...]
) -> None:
    """Serve the registry over the Hub's protocol, so that hf, transformers, datasets, vLLM and llama.cpp use it.

    Names are repositories, versions and aliases are revisions. Ctrl-C ends it.

    \b
    tuneforge registry serve
    HF_ENDPOINT=http://127.0.0.1:8800 hf download support-bot --revision production
    """
    from ..serve.address import listening

    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise RefusedError(f"{' and '.join(missing)} are not installed", "pip install 'tuneforge[server]' brings them.")
    known = _tokens(tokens) if tokens else None
    listener, address = listening(host, port)
    if not address.loopback and known is None:
        raise RefusedError(
            f"--host {host} can be reached from other machines, and nobody would be asked for a token",
            "Write tokens into a file and give it with --tokens, or stay with --host 127.0.0.1.",
        )
    import uvicorn

    from tuneforge_registry_server import Terms, application

    registry = open_registry(obj)
    hosts = ("localhost", "127.0.0.1", "[::1]", host.lower(), address.host)
    terms = Terms(known, read_only, allow_pickle, hosts, lambda line: click.echo(line))
    config = uvicorn.Config(
        application(registry, kinds_of(registry), terms),
        http="h11",  # which bounds the headers of a request; httptools does not
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    # From here on who connects is answered: connections wait until they are taken.
    click.echo(f"serving {registry.home} at {address.url}{' read-only' if read_only else ''}; Ctrl-C ends it")
    click.echo(f"\nexport HF_ENDPOINT={address.url}\n")
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def _tokens(file: Path) -> Tokens:
    from tuneforge_registry_server import Tokens

    try:
        return Tokens.read(file)
    except RegistryError as error:
        raise RefusedError(error.problem, error.fix) from error


def kinds_of(registry: Registry) -> Kinds:
    """What the server asks about folders that clients make."""
    from tuneforge_registry_server import Kinds

    from ..plugins import Plugins
    from ..recognition import DATA, base_of, recognised

    known = Plugins().kinds

    def of(folder: Path, type: str, before: str | None) -> tuple[str, str | None]:
        kind = recognised(folder, known, type == "dataset", before)
        return kind.kind, base_of(folder, kind, registry)

    return Kinds(frozenset(name for name, kind in known.items() if issubclass(kind, DATA)), of)
