"""What can be known of a recipe's trackers before anything runs."""

from __future__ import annotations

from dataclasses import replace

from ..errors import Finding, PluginError
from ..plugins import told
from ..recipe import Recipe


def check_trackers(recipe: Recipe) -> list[Finding]:
    """The findings of the recipe's trackers, each at the option that it is about."""
    found: list[Finding] = []
    for name, tracker in recipe.trackers.items():
        try:
            findings = list(tracker.check())
        except Exception as error:
            problem = f"plugin {recipe.plugins.trackers.origin(name)}: {type(tracker).__name__}.check failed"
            raise PluginError(f"{problem}: {told(error)}", place=recipe.document.place(("trackers", name))) from error
        for finding in findings:
            keys = ("trackers", name, *(finding.field.split(".") if finding.field else ()))
            found.append(replace(finding, place=finding.place or recipe.document.place(keys)))
    return found
