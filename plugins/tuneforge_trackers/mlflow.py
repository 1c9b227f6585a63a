"""MLflow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tuneforge import Field, Finding, Follower, RunStarted, Tracker

from .checks import answering, writable

_DEFAULT = "sqlite:///mlflow.db"


class Mlflow(Tracker):
    """MLflow, on a server, in a database file, or in a folder of files.

    Each run of the recipe is a run of MLflow, with a run nested in it for each step that has figures. The configuration
    is its parameters; final figures and the scores of a report are metrics. MLflow itself advises a database over a
    folder of files; `mlflow server --backend-store-uri sqlite:///mlflow.db` shows it.
    """

    name = "mlflow"
    needs = ("alembic>=1.10", "mlflow-skinny>=3.7", "sqlalchemy>=2")

    uri: str | None = Field(
        None,
        min_length=1,
        description=(
            "The tracking server (http://...), database (sqlite:///mlflow.db) or folder; MLFLOW_TRACKING_URI if left "
            "out, else sqlite:///mlflow.db in the working folder."
        ),
        also=("tracking_uri", "mlflow_tracking_uri"),
    )
    experiment: str | None = Field(
        None,
        min_length=1,
        description="The experiment, made if need be; the recipe's name if left out.",
        also=("experiment_name",),
    )

    def address(self) -> str:
        """Where to, as MLflow takes it; local places are absolute."""
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or _DEFAULT
        scheme, _, rest = uri.partition(":")
        if scheme == "sqlite" and rest.startswith("///"):
            return f"sqlite:///{Path(rest[3:]).expanduser().absolute()}"
        if scheme == "file":
            return Path(unquote(urlsplit(uri).path)).absolute().as_uri()
        if uri == "databricks" or rest.startswith("//"):
            return uri
        return Path(uri).expanduser().absolute().as_uri()

    def check(self) -> Iterator[Finding]:
        address = urlsplit(self.address())
        if address.scheme == "sqlite":
            yield from writable(Path(address.path[1:]).parent, "uri")
        elif address.scheme == "file":
            yield from writable(Path(unquote(address.path)), "uri")
        elif address.scheme in ("http", "https"):
            fix = "Start it (`mlflow server`), or leave it out: --set trackers.mlflow=false"
            yield from answering(self.address(), "uri", fix)

    def open(self, run: RunStarted) -> Follower:
        from .mlflow_engine import Experiment

        return Experiment(run, self.address(), self.experiment or run.recipe)
