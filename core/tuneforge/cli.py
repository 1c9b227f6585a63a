"""The command line. Everything heavy is imported inside the commands, so that --help answers at once."""

from __future__ import annotations

import errno
import gc
import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from . import __version__

if TYPE_CHECKING:
    from .plan import Plan
    from .runner import Run

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
    tuneforge report --open                 what came out of it: steps, curves, scores, answers
    tuneforge registry ls                   the models and data that are there
    tuneforge chat support-bot              talk to it
    tuneforge serve support-bot             let programs talk to it
    """
    from .console import wants_colour

    context.obj = {"home": home, "debug": debug}
    context.color = wants_colour()


def _recipe_options(command: Command) -> Command:
    for option in (
        click.argument("recipe"),
        click.option(
            "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override, such as steps.sft.with.epochs=1."
        ),
        click.option("--from", "start", metavar="STEP", help="Begin with this step; what it needs must be there."),
        click.option("--until", metavar="STEP", help="Stop after this step."),
        click.option(
            "--launch", metavar="KEY=VALUE,...", help="Spread every step that can be, such as processes=2,strategy=ddp."
        ),
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
    launch: str | None,
    as_json: bool,
) -> None:
    """Check a recipe and show what running it would do. Nothing is run or written."""
    from .errors import DONE, REFUSED

    made = _plan(obj, recipe, settings, start, until, again, launch, as_json)
    if as_json:
        _print_json(_plan_document(made))
    else:
        _show_plan(made)
    sys.exit(REFUSED if made.errors else DONE)


@cli.command()
@_recipe_options
@click.option("--threads", type=click.IntRange(1), help="CPU threads a step may use.  [half the processors]")
@click.option("--node", type=click.IntRange(0), default=0, help="Which of several nodes this is; 0 leads.  [0]")
@click.pass_obj
def run(
    obj: dict[str, Any],
    recipe: str,
    settings: tuple[str, ...],
    start: str | None,
    until: str | None,
    again: tuple[str, ...],
    launch: str | None,
    as_json: bool,
    threads: int | None,
    node: int,
) -> None:
    """Carry out a recipe. What is there already is not made again."""
    # Before the imports: it imports most of what they would, and does it without looking for garbage.
    made = _plan(obj, recipe, settings, start, until, again, launch, as_json)

    from .console import show_findings, show_scores, show_sweeps, watch
    from .errors import DONE, REFUSED, STEP_FAILED
    from .preflight import threads_for
    from .runner import Run, as_document, warnings_of

    if made.errors and as_json:
        _print_json(_plan_document(made))
    show_findings(made.findings)
    if made.errors:
        sys.exit(REFUSED)
    if node:
        from .launch.nodes import follow

        sys.exit(follow(made, node, threads_for(threads), lambda text: click.echo(text, err=True)))
    with watch(made, stderr=as_json) as observer:
        work = Run(made, observer, threads_for(threads))
        try:
            record = work.carry_out()
        except KeyboardInterrupt:
            _tell_page(work, silent=as_json)
            raise
    failed = [step for step in record["steps"] if step["status"] == "failed"]
    if as_json:
        _print_json(as_document(record, work.page))
    else:
        from .artifacts import Report

        reports = {
            step["name"]: Report.summary(made.registry.tree(step["digest"]))
            for step in record["steps"]
            if step["kind"] == Report.kind
        }
        show_scores(record, reports)
        show_sweeps(work.told.sweeps if work.told else ())
        show_findings(warnings_of(record))
    _tell_page(work, silent=as_json)
    for step in failed:
        click.secho(step["error"], fg="red", err=True)
        if obj["debug"] and step.get("traceback"):
            click.echo(step["traceback"], err=True)
    sys.exit(STEP_FAILED if failed else DONE)


@cli.command()
@click.argument("recipe")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override, as for run.")
@click.option(
    "--launch", metavar="KEY=VALUE,...", help="As for run, such as strategy=fsdp; nodes and processes follow."
)
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Machines.")
@click.option("--gpus", type=click.IntRange(0), default=8, show_default=True, help="GPUs, and processes, on each.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="For sbatch, such as time=24:00:00.")
@click.pass_obj
def sbatch(
    obj: dict[str, Any],
    recipe: str,
    settings: tuple[str, ...],
    launch: str | None,
    nodes: int,
    gpus: int,
    options: tuple[str, ...],
) -> None:
    """Print a job script for Slurm that carries RECIPE out on several machines, once it is checked for them.

    \b
    tuneforge sbatch my-recipe.yaml --nodes 2 --gpus 8 --option time=24:00:00 > job.sh
    sbatch job.sh
    """
    from tuneforge_registry import Registry

    from .console import show_findings
    from .errors import REFUSED
    from .home import home_folder
    from .launch.hardware import Hardware
    from .launch.options import launch_settings
    from .launch.slurm import sbatch_script
    from .plan import make_plan
    from .recipe import find_recipe, read_recipe

    path, home = find_recipe(recipe), home_folder(obj["home"])
    given = launch_settings(launch)
    asked = [f"nodes={nodes}", f"processes={gpus or 1}", *(["rendezvous=node-0:29500"] if nodes > 1 else []), *given]
    # As it will be there: what this machine has says nothing of those that will do the work.
    made = make_plan(read_recipe(path, settings, launch=asked), Registry(home), hardware=Hardware(gpus, 2**16))
    show_findings(made.findings)
    if made.errors:
        sys.exit(REFUSED)
    click.echo(
        sbatch_script(
            name=made.recipe.name,
            recipe=path.absolute(),
            home=home,
            settings=settings,
            launch=given,
            nodes=nodes,
            gpus=gpus,
            options=options,
        ),
        nl=False,
    )


@cli.command()
@click.argument("run", required=False)
@click.option("--open", "open_page", is_flag=True, help="Open the page in a browser.")
@click.option("--html", "to", type=click.Path(dir_okay=False, path_type=Path), help="Write the page to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")
@click.pass_obj
def report(obj: dict[str, Any], run: str | None, open_page: bool, to: Path | None, as_json: bool) -> None:
    """Show what came out of a run: its steps, curves, scores and answers. RUN is the beginning of its id.

    Without RUN it is the newest one. The same, and more, is written as a page to look at.
    """
    from tuneforge_registry import Registry

    from .home import home_folder
    from .report.command import report

    report(Registry(home_folder(obj["home"])), run, to, open_page, as_json)


@cli.command()
@click.argument("refs", nargs=-1, required=True, metavar="REF...")
@click.option("--system", default="", metavar="TEXT", help="A system message, before the first question.")
@click.option("--max-tokens", type=click.IntRange(1), default=1024, show_default=True, help="Cut an answer off.")
@click.option(
    "--temperature", type=click.FloatRange(0), default=0.0, show_default=True, help="0: the likeliest token each time."
)
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Draw from the likeliest tokens that have this probability together.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Draw the same again.  [another one each time]")
@click.option(
    "--context",
    type=click.IntRange(1),
    metavar="TOKENS",
    help="Bound a conversation.  [the model's own, or what its speaker takes of it]",
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads an answer may use.  [half the processors]")
@click.pass_obj
def chat(
    obj: dict[str, Any],
    refs: tuple[str, ...],
    system: str,
    max_tokens: int,
    temperature: float,
    top_p: float,
    seed: int | None,
    context: int | None,
    threads: int | None,
) -> None:
    """Talk to models, adapters and GGUF files of the registry, several side by side.

    REF is a name, name@version, name@alias or digest. What comes by a pipe or from a file is one question:

    \b
    tuneforge chat support-bot@production
    echo "Where is my order?" | tuneforge chat support-bot@v1 support-bot@v2
    """
    import secrets

    from tuneforge_registry import Registry

    from .chat.command import chat
    from .home import home_folder
    from .preflight import threads_for
    from .speakers import Manner

    if temperature == 0 and (top_p < 1 or seed is not None):
        click.echo("note: --top-p and --seed count only with a --temperature above 0", err=True)
    manner = Manner(max_tokens, temperature, top_p, secrets.randbits(32) if seed is None else seed)
    sys.exit(
        chat(
            refs,
            Registry(home_folder(obj["home"])),
            system=system,
            manner=manner,
            threads=threads_for(threads),
            context=context,
            debug=obj["debug"],
        )
    )


@cli.command()
@click.argument("ref")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; elsewhere a key is asked for.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--engine", metavar="NAME", help="What serves it; see `tuneforge plugins`.  [the best that can]")
@click.option("--base", metavar="REF", help="What a GGUF adapter is served on: the GGUF file of its base.")
@click.option("--name", metavar="MODEL", help="What clients call it.  [as REF does, without the version]")
@click.option(
    "--context",
    type=click.IntRange(1),
    metavar="TOKENS",
    help="Bound a conversation.  [the model's own, or what its server takes of it]",
)
@click.option(
    "--api-key-file",
    "keys",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Ask clients for one of the keys in this file, one a line.",
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads an answer may use.  [half the processors]")
@click.pass_obj
def serve(
    obj: dict[str, Any],
    ref: str,
    host: str,
    port: int,
    engine: str | None,
    base: str | None,
    name: str | None,
    context: int | None,
    keys: Path | None,
    threads: int | None,
) -> None:
    """Serve a model, adapter or GGUF file of the registry to programs that speak OpenAI's protocol.

    REF is a name, name@version, name@alias or digest. Ctrl-C ends it.

    \b
    tuneforge serve support-bot@production
    tuneforge serve support-bot-gguf --port 8080 --api-key-file keys.txt
    """
    from tuneforge_registry import Registry

    from .home import home_folder
    from .preflight import threads_for
    from .serve.command import serve

    sys.exit(
        serve(
            ref,
            Registry(home_folder(obj["home"])),
            host=host,
            port=port,
            engine=engine,
            base=base,
            name=name,
            context=context,
            keys=keys,
            threads=threads_for(threads),
            debug=obj["debug"],
        )
    )


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
    from .pages.markdown import methods_markdown
    from .pages.methods import list_methods, show_method
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
        from .registry_cli import COMMANDS

        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        from .registry_cli import COMMANDS

        if name not in COMMANDS:
            return None
        module, _, command = COMMANDS[name].partition(":")
        found: click.Command = getattr(import_module(f".registry_cli.{module}", __package__), command)
        return found


@cli.group(cls=_RegistryGroup)
def registry() -> None:
    """Keep what was made: find it, name it, compare it, make it again."""


def _plan(
    obj: dict[str, Any],
    recipe: str,
    settings: tuple[str, ...],
    start: str | None,
    until: str | None,
    again: tuple[str, ...],
    launch: str | None,
    as_json: bool,
) -> Plan:
    from tuneforge_registry import Registry

    from .errors import RefusedError

    # Nearly all that is made until the end of a plan lives on: to look for garbage in it, while it is made and once
    # after, is a sixth of the time.
    gc.disable()
    try:
        from .home import home_folder
        from .launch.options import launch_settings
        from .plan import make_plan
        from .preflight import preflight
        from .recipe import find_recipe, read_recipe

        read = read_recipe(find_recipe(recipe), settings, launch=launch_settings(launch))
        made = make_plan(read, Registry(home_folder(obj["home"])), start, until, again)
    except RefusedError as error:
        if as_json:
            _print_json({"recipe": recipe, "findings": [vars(finding) for finding in error.findings], "steps": []})
        raise
    finally:
        gc.freeze()
        gc.enable()
    made.findings.extend(preflight(made))
    return made


def _tell_page(work: Run, silent: bool) -> None:
    """Where the report of a run lies, unless `silent`; or why there is none."""
    if work.page_problem:
        click.echo(f"{click.style('warning', 'yellow')}: {work.page_problem}", err=True)
    elif work.page and not silent:
        click.echo(f"report: {work.page}")


def _show_plan(made: Plan) -> None:
    from .console import show_findings, show_plan

    if not made.errors:
        show_plan(made)
    show_findings(made.findings)


def _plan_document(made: Plan) -> dict[str, Any]:
    return {
        "run": None,
        "recipe": made.recipe.name,
        "findings": [vars(finding) for finding in made.findings],
        "steps": [
            {
                "name": step.name,
                **step.spec.marks(),
                "stage": step.method.stage,
                "method": step.method.name,
                "status": step.status,
                "seconds": None,
                "reason": step.reason,
                "key": step.key,
                "digest": step.result.digest if step.result else None,
                "kind": step.result.kind.kind if step.result else None,
                "launch": step.launch.to_json() if step.launch else None,
                "metrics": made.known_metrics(step),
            }
            for step in made.steps.values()
        ],
    }


def _print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def main() -> None:
    """The console script: errors of ours as one or two lines, with the exit code that goes with them."""
    try:
        cli.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        from .errors import INTERRUPTED

        click.echo("interrupted: finished steps are kept; the same command goes on from there", err=True)
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:
        sys.exit(_tell(error))
    finally:
        # The system takes all memory back: that Python looks through it first is a seventh of the time of a plan.
        gc.freeze()


def _tell(error: Exception) -> int:
    """Says what went wrong, and gives the exit code that goes with it; raises what is a bug."""
    from tuneforge_registry.errors import RegistryError

    from .errors import REFUSED, STEP_FAILED, TuneforgeError

    match error:
        case TuneforgeError():
            told, code = str(error), error.exit_code
        case RegistryError():
            told, code = f"registry: {error.problem}\n    {error.fix}", REFUSED
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            told = "the disk is full, or your share of it\n    Free space; the same command then goes on."
            code = STEP_FAILED
        case OSError():
            told, code = f"{error.filename or 'tuneforge'}: {error.strerror or error}", STEP_FAILED
        case _:
            raise error
    if "--debug" in sys.argv:
        from traceback import print_exception

        print_exception(error)
    else:
        click.echo(told, err=True)
    return code


if __name__ == "__main__":
    main()
