"""`tuneforge serve`: an artifact for programs that speak OpenAI's protocol."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import click

from tuneforge_registry import Registry

from ..errors import INTERRUPTED, RefusedError
from ..plugins import Plugins
from ..servers import Terms
from .address import Address, free_address
from .choice import choose
from .process import running

_QUESTION = "Hello!"


def serve(
    ref: str,
    registry: Registry,
    *,
    host: str,
    port: int,
    engine: str | None,
    base: str | None,
    name: str | None,
    context: int | None,
    keys: Path | None,
    threads: int,
    debug: bool,
) -> int:
    """Serves until it is interrupted, and gives the exit code.

    Raises RefusedError for what cannot be served so, and TuneforgeError for what fails.
    """
    try:
        address = free_address(host, port)
        if not address.loopback and keys is None:
            raise RefusedError(
                f"--host {host} can be reached from other machines, and nobody would be asked for a key",
                "Write a key into a file and give it with --api-key-file, or stay with --host 127.0.0.1.",
            )
        plugins = Plugins()
        given = _keys(keys) if keys else ()
        terms = Terms(address.host, address.port, name or "", given, context, threads)
        served = choose(ref, base, engine, terms, registry, plugins)
        terms = replace(terms, name=name or _name(ref, served.digest))
        for note in served.notes:
            _note(note)
        called = f"{ref} ({served.facts.kind.kind} {served.digest[:12]}) by {served.server.name}"
        with (
            registry.workspace(),  # what is served stays in the registry meanwhile
            running(ref, served, terms, registry, plugins, log=_note, debug=debug) as server,
        ):
            _note(f"loading {called}")
            server.wait_until_ready()
            click.echo(_welcome(called, address, terms.name, keys))
            server.wait_until_ended()
    except KeyboardInterrupt:
        pass
    return INTERRUPTED


def _note(text: str) -> None:
    click.secho(text, dim=True, err=True)


def _name(ref: str, digest: str) -> str:
    """What clients call it: as the person does, without the version; a digest is cut short."""
    return digest[:12] if digest.startswith(ref) else ref.partition("@")[0]


def _keys(file: Path) -> tuple[str, ...]:
    """The keys of a file, one a line. Raises RefusedError."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="ascii").splitlines()]
    except UnicodeDecodeError as error:
        raise RefusedError("a key has letters, digits and signs of ASCII alone", place=str(file)) from error
    keys = tuple(line for line in lines if line)
    if not keys:
        raise RefusedError("there is no key in it", "Write one into it, a line each.", str(file))
    if any(" " in key for key in keys):
        raise RefusedError("a key has no spaces", place=str(file))
    return keys


def _welcome(called: str, address: Address, name: str, keys: Path | None) -> str:
    """Where it is to be found, and two commands that ask it something as they stand."""
    url = f"{address.url}/v1"
    asked = {"model": name, "messages": [{"role": "user", "content": _QUESTION}], "max_tokens": 64}
    path = str(keys.absolute()) if keys else ""
    key = f'-H "Authorization: Bearer $(grep -m 1 . {shlex.quote(path)})" ' if keys else ""
    body = shlex.quote(json.dumps(asked))
    curl = f"curl {url}/chat/completions {key}-H 'Content-Type: application/json' -d {body}"
    secret = f"open({path!r}).read().split()[0]" if keys else "'none'"
    arguments = ", ".join(f"{option}={value!r}" for option, value in asked.items())
    script = (
        f"from openai import OpenAI; client = OpenAI(base_url={url!r}, api_key={secret}); "
        f"print(client.chat.completions.create({arguments}).choices[0].message.content)"
    )
    python = f"python -c {shlex.quote(script)}"
    return f"serving {called} at {url} as {name}; Ctrl-C ends it\n\n{curl}\n\n{python}\n"
