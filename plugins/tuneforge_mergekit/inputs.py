"""The models of a merge, as mergekit takes them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from mergekit.common import ModelPath, ModelReference

from tuneforge import Adapter, Model, Step, StepError
from tuneforge.kit.merging import merge
from tuneforge.kit.models import full_model, stored_dtype


def folders(models: Sequence[Model | Adapter], base: Model | None, step: Step) -> list[Path]:
    """The folders of full models, the base last; an adapter is merged into its own base first, in `step.scratch`.

    Raises StepError for an adapter that was trained on another model than the base.
    """
    for number, model in enumerate(models):
        if base is not None and isinstance(model, Adapter) and full_model(model).digest != base.digest:
            raise StepError(
                f"model {number} is an adapter on another model than the base",
                "Name the model that the adapter was trained on as the base.",
            )
    everyone: list[Model | Adapter] = [*models, *([base] if base is not None else [])]
    return [
        _merged(model, number, step) if isinstance(model, Adapter) else model.path
        for number, model in enumerate(everyone)
    ]


def dtype_of(folder: Path) -> str:
    """What the weights in a folder are stored as, as torch calls it."""
    return str(stored_dtype(Model(folder, ""))).split(".")[-1]


def references(found: Sequence[Path], step: Step) -> list[ModelReference]:
    """The folders as mergekit refers to them: each by a link, so that one model can be there more than once."""
    links = step.scratch / "inputs"
    shutil.rmtree(links, ignore_errors=True)
    links.mkdir(parents=True)
    for number, folder in enumerate(found):
        (links / str(number)).symlink_to(folder.absolute(), target_is_directory=True)
    return [ModelReference(model=ModelPath(path=str((links / str(number)).absolute()))) for number in range(len(found))]


def _merged(adapter: Adapter, number: int, step: Step) -> Path:
    folder = step.scratch / f"merged-{number}"
    if folder.exists():  # by a step that was interrupted afterwards
        return folder
    step.log(f"model {number} is an adapter: it is merged into its base first")
    beside = step.scratch / f"merging-{number}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    figures = merge(adapter, beside)
    step.metrics(**{f"model_{number}": figures})
    beside.rename(folder)
    return folder
