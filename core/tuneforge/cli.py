"""The command line. Everything heavy is imported inside the commands, so that --help answers at once."""

from __future__ import annotations

import gc
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from . import __version__

if TYPE_CHECKING:
    from .plan import Plan

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="tuneforge")
@click.option("--home", type=click.Path(path_type=Path), help="The registry's folder.  [$TUNEFORGE_HOME or .tuneforge]")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def cli(context: click.Context, home: Path | None, debug: bool) -> None:
    """From raw data to a deployed language model: one recipe, one command.

    \b
    tuneforge run dpo-after-sft             carry out a recipe, shipped or your own file
    tuneforge plan my-recipe.yaml           check it first: seconds, no GPU, nothing is run
    tuneforge plugins train.sft             what a method does and which options it has
    tuneforge registry ls                   what came out of it
    """
    context.obj = {"home": home, "debug": debug}


def _recipe_options(command: Command) -> Command:
    for option in (
        click.argument("recipe"),
        click.option(
            "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override, such as steps.sft.with.epochs=1."
        ),
        click.option("--from", "start", metavar="STEP", help="Begin with this step; what it needs must be there."),
        click.option("--until", metavar="STEP", help="Stop after this step."),
        click.option("--again", multiple=True, metavar="STEP", help="Run this step though its result is there."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output."),
    ):
        command = option(command)
    return command


@cli.command()
@_recipe_options
@click.pass_obj
def plan(
    obj: dict[str, Any],
    recipe: str,
    settings: tuple[str, ...],
    start: str | None,
    until: str | None,
    again: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check a recipe and show what running it would do. Nothing is run or written."""
    from .errors import DONE, REFUSED

    made = _plan(obj, recipe, settings, start, until, again, as_json)
    if as_json:
        _print_json(_plan_document(made))
    else:
        _show_plan(made)
    sys.exit(REFUSED if made.errors else DONE)


@cli.command()
@_recipe_options
@click.option("--threads", type=click.IntRange(1), help="CPU threads a step may use.  [half the processors]")
@click.pass_obj
def run(
    obj: dict[str, Any],
    recipe: str,
    settings: tuple[str, ...],
    start: str | None,
    until: str | None,
    again: tuple[str, ...],
    as_json: bool,
    threads: int | None,
) -> None:
    """Carry out a recipe. What is there already is not made again."""

    from .console import Watch, open_console, show_findings, show_scores
    from .errors import DONE, REFUSED, STEP_FAILED
    from .preflight import threads_for
    from .runner import Run, as_document

    made = _plan(obj, recipe, settings, start, until, again, as_json)
    errors = open_console(stderr=True)
    if made.errors:
        if as_json:
            _print_json(_plan_document(made))
        show_findings(errors, made.findings)
        sys.exit(REFUSED)
    show_findings(errors, made.findings)
    with Watch(errors if as_json else open_console(), made) as watch:
        work = Run(made, watch, threads_for(threads))
        record = work.carry_out()
    failed = [step for step in record["steps"] if step["status"] == "failed"]
    if as_json:
        _print_json(as_document(record))
    else:
        from .artifacts import Report

        reports = {
            step["name"]: Report.summary(made.registry.tree(step["digest"]))
            for step in record["steps"]
            if step["kind"] == Report.kind
        }
        show_scores(open_console(), record, reports)
    for step in failed:
        errors.print(step["error"], style="red", soft_wrap=True, highlight=False, markup=False)
        if obj["debug"] and step.get("traceback"):
            errors.print(step["traceback"], highlight=False, markup=False)
    sys.exit(STEP_FAILED if failed else DONE)


@cli.command()
@click.argument("recipe", required=False)
def schema(recipe: str | None) -> None:
    """Print the JSON schema of recipes, with the installed plugins and those that RECIPE names."""
    from .plugins import Plugins
    from .recipe import find_recipe, read_recipe
    from .schema import recipe_schema

    if recipe is None:
        _print_json(recipe_schema(Plugins()))
        return
    read = read_recipe(find_recipe(recipe))
    for problem in read.problems:  # the schema may be wanted to mend them; one may be a plugin that is left out
        click.echo(str(problem), err=True)
    _print_json(recipe_schema(read.plugins))


@cli.command()
@click.argument("method", required=False, metavar="[STAGE.METHOD]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
@click.option("--markdown", is_flag=True, help="Print a page of documentation.")
def plugins(method: str | None, as_json: bool, markdown: bool) -> None:
    """List the methods at hand, or show one with its inputs, options, defaults and documentation."""
    from .method_pages import list_methods, methods_markdown, show_method
    from .plugins import Plugins

    found = Plugins()
    if markdown:
        click.echo(methods_markdown(found), nl=False)
    elif method is None:
        list_methods(found, as_json)
    else:
        show_method(found, method, as_json)


class _RegistryGroup(click.Group):
    """Its commands are imported when one is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        return ["ls", "show", "lineage", "tag", "path", "verify", "gc"]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        from . import registry_commands

        return getattr(registry_commands, name) if name in self.list_commands(context) else None


@cli.group(cls=_RegistryGroup)
def registry() -> None:
    """Look at what was made: artifacts, names, lineage."""


def _plan(
    obj: dict[str, Any],
    recipe: str,
    settings: tuple[str, ...],
    start: str | None,
    until: str | None,
    again: tuple[str, ...],
    as_json: bool,
) -> Plan:
    from tuneforge_registry import Registry

    from .errors import RefusedError

    # Nearly all that is made until the end of a plan lives on: to look for garbage in it is a tenth of the time.
    gc.disable()
    try:
        from .plan import make_plan
        from .preflight import home_folder, preflight
        from .recipe import find_recipe, read_recipe

        read = read_recipe(find_recipe(recipe), settings)
        made = make_plan(read, Registry(home_folder(obj["home"])), start, until, again)
    except RefusedError as error:
        if as_json:
            _print_json({"recipe": recipe, "findings": [vars(finding) for finding in error.findings], "steps": []})
        raise
    finally:
        gc.enable()
    made.findings.extend(preflight(made))
    return made


def _show_plan(made: Plan) -> None:

    from .console import open_console, show_findings, show_plan

    if not made.errors:
        show_plan(open_console(), made)
    show_findings(open_console(stderr=True), made.findings)


def _plan_document(made: Plan) -> dict[str, Any]:
    return {
        "run": None,
        "recipe": made.recipe.name,
        "findings": [vars(finding) for finding in made.findings],
        "steps": [
            {
                "name": step.name,
                "stage": step.method.stage,
                "method": step.method.name,
                "status": step.status,
                "seconds": None,
                "reason": step.reason,
                "key": step.key,
                "digest": step.result.digest if step.result else None,
                "kind": step.result.kind.kind if step.result else None,
                "metrics": made.known_metrics(step),
            }
            for step in made.steps.values()
        ],
    }


def _print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def main() -> None:
    """The console script: errors of ours as one or two lines, with the exit code that goes with them."""
    from tuneforge_registry.errors import RegistryError

    from .errors import INTERRUPTED, REFUSED, STEP_FAILED, TuneforgeError

    try:
        cli.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted: finished steps are kept; the same command goes on from there", err=True)
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (TuneforgeError, RegistryError) as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        elif isinstance(error, RegistryError):
            click.echo(f"registry: {error.problem}\n    {error.fix}", err=True)
        else:
            click.echo(str(error), err=True)
        sys.exit(error.exit_code if isinstance(error, TuneforgeError) else REFUSED)
    except OSError as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        else:
            click.echo(f"{error.filename or 'tuneforge'}: {error.strerror or error}", err=True)
        sys.exit(STEP_FAILED)


if __name__ == "__main__":
    main()
