"""The steps that every recipe gets for each form that it makes of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tuneforge import (
    Adapter,
    Addition,
    Artifact,
    ChatData,
    Extension,
    Field,
    Gguf,
    Model,
    PreferenceData,
    QuantizedModel,
    Report,
    RewardAdapter,
    RewardModel,
    TextData,
    Wiring,
)
from tuneforge.inputs import inputs_of
from tuneforge.recipe import StepSpec

from .options import Formats

FORMS = (Model, Adapter, RewardModel, RewardAdapter, QuantizedModel, Gguf)
"""What a probe takes."""
_DATA = (ChatData, TextData, PreferenceData)

Steps = Mapping[str, StepSpec]
Kinds = Mapping[str, type[Artifact]]


class Parity(Extension):
    """Proof that an export says what was trained, after every step that makes another form of a model.

    After each merge or quantize step with one model as its input come `<step>.probe`, which records what the new form
    says, and `<step>.parity`, which compares that with what the trained form says: `<trained>.probe`. The trained form
    is the model or adapter before the first of such steps, whatever stands between. The report goes to every
    publication of the form, or of what is made of it, and stops that if it failed. A step that has an `evaluate:
    parity` of the recipe's own is left to that, and its report goes the same way.
    """

    name = "parity"

    limit: int = Field(8, ge=1, description="Prompts that each form is asked.", also=("max_samples", "num_samples"))
    positions: int = Field(16, ge=1, description="Positions of an answer at which the next token is compared.")
    max_new_tokens: int = Field(32, ge=1, description="Tokens after which an answer is cut off.", also=("max_tokens",))
    require: Formats = Field({}, description="What forms must reach, by format: {bits4: {kl_mean: 0.1}}.")

    def extend(self, steps: Steps, kinds: Kinds) -> Iterable[Addition | Wiring]:
        for name, spec in steps.items():
            for judged in _judged_by(spec, steps):
                yield Wiring(name, [(each, "reports") for each in _publications(steps, kinds, judged)])
        asked = {"limit": self.limit, "positions": self.positions, "max_new_tokens": self.max_new_tokens}
        recorded: dict[str, str] = {}
        for form in _forms(steps, kinds):
            data = _data(steps, kinds, form.root)
            if form.root not in recorded:
                # What comes from the registry is no step that another could come after.
                first = form.root if form.root in steps else form.step
                name = "probe" if form.root in steps else "reference"
                recorded[form.root] = f"{first}.{name}"
                yield Addition(first, name, "evaluate", "probe", {"model": [form.root]} | data, asked)
            yield Addition(form.step, "probe", "evaluate", "probe", {"model": [form.step]} | data, asked)
            inputs = {"reference": [recorded[form.root]], "model": [f"{form.step}.probe"]}
            into = [(name, "reports") for name in _publications(steps, kinds, form.step)]
            bars = {name: given.model_dump(exclude_none=True) for name, given in self.require.items()}
            options = {"formats": bars} if bars else {}
            yield Addition(form.step, "parity", "evaluate", "parity", inputs, options, into)


@dataclass(frozen=True)
class _Form:
    """A step that makes another form of a model, and where that was trained or loaded."""

    step: str
    root: str


def _forms(steps: Steps, kinds: Kinds) -> Iterator[_Form]:
    judged = {wire for spec in steps.values() for wire in _judged_by(spec, steps)}
    for name, spec in steps.items():
        if name in judged or _source(spec, kinds) is None or not _probed(name, kinds):
            continue
        *_, root = _before(name, steps, kinds)
        if _probed(root, kinds):
            yield _Form(name, root)


def _source(spec: StepSpec, kinds: Kinds) -> str | None:
    """What a step makes another form of: its only model; None of a step that does something else."""
    if spec.kind.stage not in ("merge", "quantize"):
        return None
    models = [
        wire
        for wires in spec.inputs.values()
        for wire in wires
        if wire not in kinds or not issubclass(kinds[wire], (*_DATA, Report))
    ]
    return models[0] if len(models) == 1 and spec.inputs.get("model") == models else None


def _probed(wire: str, kinds: Kinds) -> bool:
    return wire in kinds and issubclass(kinds[wire], FORMS)


def _judged_by(spec: StepSpec, steps: Steps) -> Iterator[str]:
    """The forms that a step of the recipe's own compares."""
    if (spec.kind.stage, spec.kind.name) == ("evaluate", "parity"):
        for probe in spec.inputs.get("model", ()):
            if probe in steps:
                yield from steps[probe].inputs.get("model", ())


def _data(steps: Steps, kinds: Kinds, root: str) -> dict[str, list[str]]:
    """The data of the nearest training before, as an input; none where that is not known."""
    at = root
    while at in steps:
        spec = steps[at]
        wires = spec.inputs.get("data", [])
        if spec.kind.stage in ("train", "align") and len(wires) == 1 and issubclass(kinds.get(wires[0], Report), _DATA):
            return {"data": wires}
        models = spec.inputs.get("model", [])
        if len(models) != 1:
            break
        at = models[0]
    return {}


def _publications(steps: Steps, kinds: Kinds, form: str) -> Iterator[str]:
    """Those that take reports and ship the form, or what was made of it: that can be no better."""
    for name, spec in steps.items():
        reports = inputs_of(spec.kind).get("reports")
        judged = spec.kind.stage == "publish" and reports and reports.many and reports.takes(Report)
        if judged and any(form in _before(wire, steps, kinds) for wire in spec.sources()):
            yield name


def _before(wire: str, steps: Steps, kinds: Kinds) -> Iterator[str]:
    """The step, and all whose model it is another form of."""
    at: str | None = wire
    while at is not None:
        yield at
        at = _source(steps[at], kinds) if at in steps else None
