"""Which way the arrows go: registry <- core <- plugins."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from tuneforge.plugins import Plugins

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PLUGINS = sorted(folder.name for folder in (ROOT / "plugins").glob("tuneforge_*"))


def test_the_layers_are_kept() -> None:
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=None) == EXIT_STATUS_SUCCESS


def test_every_plugin_is_in_a_layer() -> None:
    roots = PROJECT["tool"]["importlinter"]["root_packages"]
    assert sorted(roots) == sorted(["tuneforge", "tuneforge_registry", "tuneforge_registry_server", *PLUGINS])
    beside = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"][0]
    assert sorted(beside.split(" | ")) == PLUGINS


def test_every_plugin_is_offered() -> None:
    offered = PROJECT["project"]["entry-points"]["tuneforge"]
    assert sorted(offered.values()) == PLUGINS
    assert all(module == f"tuneforge_{name}" for name, module in offered.items())


def test_the_core_does_not_import_what_plugins_share() -> None:
    graph = grimp.build_graph("tuneforge", cache_dir=None)
    kit = {"tuneforge.kit", *graph.find_descendants("tuneforge.kit")}
    importers = {importer for module in kit for importer in graph.find_modules_that_directly_import(module)}
    assert importers <= kit


def test_registering_imports_nothing_heavy() -> None:
    code = (
        "import sys; from tuneforge.plugins import Plugins; found = list(Plugins());"
        "print(len(found), *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, *modules = ended.stdout.split()
    assert int(count) == len(list(Plugins()))
    needed = {"torch", "transformers", "datasets", "trl", "peft", "pyarrow", "numpy", "tokenizers", "huggingface_hub"}
    needed |= {"tensorboard", "wandb", "mlflow", "trackio"}
    assert not needed & set(modules)


def test_an_engine_is_a_module_of_its_plugin() -> None:
    plugins = Plugins()
    for offered in (*plugins, *plugins.speakers().values()):
        if offered.engine:
            package = offered.__module__.partition(".")[0]
            assert offered.engine.partition(".")[0] == package, "another plugin's would not be lent to an environment"
            folder = importlib.util.find_spec(package).submodule_search_locations[0]  # type: ignore[union-attr,index]
            assert Path(folder, *offered.engine.split(".")[1:]).with_suffix(".py").exists(), offered
