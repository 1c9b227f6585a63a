"""Weights & Biases."""

from __future__ import annotations

import netrc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tuneforge import Field, Finding, Follower, RunStarted, Target, Tracker

from .checks import answering, writable

_SERVER = "https://api.wandb.ai"


class WeightsAndBiases(Tracker):
    """Weights & Biases, on its server, on one of your own, or offline.

    Each step with figures is a run named after it, in a group that bears the id of the recipe's run; its job type is
    the stage. The configuration is the run's config; final figures and the scores of a report are its summary. What is
    written offline is brought to a server by `wandb sync`.
    """

    name = "wandb"
    needs = ("wandb>=0.22",)

    project: str | None = Field(
        None, min_length=1, description="The project; the recipe's name if left out.", also=("wandb_project",)
    )
    entity: str | None = Field(
        None, description="The user or team that it belongs to; your own if left out.", also=("team", "wandb_entity")
    )
    mode: Literal["online", "offline"] = Field(
        "online", description="offline: write to `folder` only, with no login.", also=("wandb_mode",)
    )
    server: str | None = Field(
        None, description="Its address; that of `wandb login`, or wandb.ai, if left out.", also=("base_url", "host")
    )
    folder: Target = Field(Path(), description="Where its folder `wandb` is made.", also=("dir",))
    tags: list[str] = Field([], description="Tags of every run.", also=("wandb_tags",))

    def check(self) -> Iterator[Finding]:
        yield from writable(self.folder / "wandb", "folder")
        if self.mode == "offline":
            return
        if self._key():
            fix = "Write mode: offline and say `wandb sync` later, where it can be reached."
            yield from answering(self._server(), "server", fix)
        else:
            yield Finding(
                f"there is no login for {self._server()}",
                "Say `wandb login`, set WANDB_API_KEY, or write mode: offline.",
                field="mode",
            )

    def _server(self) -> str:
        return self.server or os.environ.get("WANDB_BASE_URL") or _SERVER

    def _key(self) -> bool:
        """Whether there is an API key where wandb looks for one."""
        if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
            return True
        home = Path.home()
        given = os.environ.get("NETRC")
        for path in [Path(given).expanduser()] if given else [home / ".netrc", home / "_netrc"]:
            try:
                known = netrc.netrc(path)
            except (OSError, netrc.NetrcParseError):
                continue
            host = urlsplit(self._server()).netloc
            if known.authenticators(host):
                return True
        return False

    def open(self, run: RunStarted) -> Follower:
        from .wandb_engine import Group

        return Group(run, self)
