"""A method is one way to do a stage. This is the contract between the core and every plugin."""

# No annotations from __future__ here: pydantic would compile those of Method anew for each method, 4 % of a plan.
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from .artifacts import Artifact, Facts, Model, Release, Report
from .errors import Finding

if TYPE_CHECKING:
    from .launch.options import Launch, Strategy

Kinds = Mapping[str, Sequence[type[Artifact]]]
Known = Mapping[str, Sequence[Facts]]


class Config(BaseModel):
    """A block of options. Its fields are the options; unknown ones are refused; reading one is remembered."""

    # Validators are built when a block is first used: a recipe uses few of those that plugins offer.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, defer_build=True)

    reads: ClassVar[set[tuple[str, str]]] = set()
    """(class, field) of every option read in this process: a set option that a step never reads is reported."""

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name in type(self).__pydantic_fields__:
            Config.reads.add((f"{type(self).__module__}.{type(self).__qualname__}", name))
        return super().__getattribute__(name)

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        context = info.context if isinstance(info.context, dict) else {}
        if not context.get("keyed"):
            return values
        defaults = context.get("defaults", False)
        return {name: value for name, value in values.items() if self._counts(name, defaults)}

    def _counts(self, name: str, defaults: bool) -> bool:
        field = type(self).__pydantic_fields__[name]
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("keyed") is False:
            return False
        # A `type:` tag has one possible value, its default, and yet tells which block this is. What is written by a
        # serializer of its own, as a Source is, stands for content that may change behind the same default.
        stands_for_content = any(isinstance(data, PlainSerializer) for data in field.metadata)
        if defaults or name == "type" or stands_for_content:
            return True
        value, default = self.__dict__[name], field.get_default(call_default_factory=True)
        if isinstance(value, Config) and type(value) is type(default):
            keyed = {"keyed": True, "defaults": True}
            return bool(value.model_dump(context=keyed) != default.model_dump(context=keyed))
        return bool(value != default)


class Method(Config):
    """One way to do a stage: fields are its configuration, the docstring its documentation, `run` its work.

    The parameters of `run` are its inputs, annotated with artifact kinds: `Model`, `Model | Adapter`, `list[Model]`,
    `ChatData | None = None`; and `step`.
    """

    stage: ClassVar[str]
    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised when the same inputs would now give another result, a changed default included."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Requirement strings; where this interpreter does not satisfy them, an environment is made that does."""
    build: ClassVar[tuple[str, ...]] = ()
    """How those of its needs that come as sources are built: `package:key=value`, uv's --config-settings-package."""
    engine: ClassVar[str] = ""
    """The module with the heavy imports: the worker's server imports it once, before it forks."""
    output: ClassVar[type[Artifact]]
    traced: ClassVar[bool] = False
    """Whether `step.lineage` is read, and so counts for the key."""
    run: ClassVar[Callable[..., None]]
    prepare: ClassVar[Callable[..., None] | None] = None
    """With the parameters of `run`, and before it: what is done once and on one processor, into `step.scratch`.

    A step that is carried out by several processes, or again after a crash, finds there what it left."""
    strategies: ClassVar[tuple[type["Strategy"], ...]] = ()
    """How it can be spread over several processes, the usual way first: then `run` is called in each of them, with
    `step.rank` and `step.launch`, and what rank 0 writes is the result."""

    def writes(self, kinds: Kinds) -> type[Artifact]:
        """The kind of the result, given the kinds of the inputs."""
        return self.output

    def requires(self, facts: Known) -> tuple[str, ...]:
        """The requirement strings of this configuration on such inputs: `needs`, and what these ask for besides."""
        return self.needs

    def pin(self) -> Self:
        """This method with moving names (a Hub branch) made fixed ones (a commit)."""
        return self

    def foresee(self, facts: Known) -> Facts:
        """The facts of the result, derived from those of the inputs; without torch."""
        return Facts(self.writes({name: [fact.kind for fact in known] for name, known in facts.items()}))

    def check(self, facts: Known) -> Iterable[Finding]:
        """What would go wrong, or is unwise, as far as it can be known before anything runs; without torch."""
        return ()

    def check_launch(self, launch: "Launch", facts: Known) -> Iterable[Finding]:
        """What of this configuration cannot be spread so; only asked where it is to be."""
        return ()


class Format(Method):
    """Raw rows into a data artifact."""

    stage = "format"


class LoadModel(Method):
    """A base model, from somewhere."""

    stage = "load_model"
    output: ClassVar[type[Artifact]] = Model


class Train(Method):
    """A model or adapter fitted to data."""

    stage = "train"
    output: ClassVar[type[Artifact]] = Model


class Align(Method):
    """A model or adapter fitted to preferences or rewards."""

    stage = "align"
    output: ClassVar[type[Artifact]] = Model


class Merge(Method):
    """Several models, or a model and its adapter, made one."""

    stage = "merge"
    output: ClassVar[type[Artifact]] = Model


class Quantize(Method):
    """A model in fewer bits, or in another runtime's format."""

    stage = "quantize"


class Evaluate(Method):
    """A report on models."""

    stage = "evaluate"
    output: ClassVar[type[Artifact]] = Report


class Publish(Method):
    """Artifacts brought to where others use them. Not cached by key alone: it runs unless the receipt still holds."""

    stage = "publish"
    output: ClassVar[type[Artifact]] = Release
    traced = True

    def holds(self, receipt: Release) -> bool:
        """Whether what the receipt names is still there, and the same."""
        raise NotImplementedError


STAGES: Mapping[str, type[Method]] = {
    stage.stage: stage for stage in (Format, LoadModel, Train, Align, Merge, Quantize, Evaluate, Publish)
}
