"""What a plugin author imports."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .artifacts import (
        Adapter,
        Artifact,
        ChatData,
        Facts,
        Gguf,
        GgufAdapter,
        Model,
        PreferenceData,
        PromptData,
        QuantizedModel,
        Release,
        Report,
        RewardAdapter,
        RewardModel,
        TextData,
    )
    from .errors import Finding, StepError
    from .extensions import Addition, Extension, Wiring
    from .fields import Field, Source, Target
    from .hookspecs import hookimpl
    from .launch.hardware import Hardware
    from .launch.options import Launch, Strategy
    from .lifecycle import RunFinished, RunStarted, StepFinished, StepMetrics, StepStarted
    from .servers import Server, Terms
    from .speakers import Manner, Message, Speaker, Voice
    from .stages import (
        Align,
        Config,
        Evaluate,
        Format,
        Kinds,
        Known,
        LoadModel,
        Merge,
        Method,
        Publish,
        Quantize,
        Train,
    )
    from .step import Step
    from .trackers import Follower, Tracker

__version__ = "0.1.0"

# Imported when asked for: `tuneforge --help` must not wait for pydantic.
_MODULES = {
    "artifacts": (
        *("Adapter", "Artifact", "ChatData", "Facts", "Gguf", "GgufAdapter", "Model"),
        *("PreferenceData", "PromptData", "QuantizedModel", "Release", "Report", "RewardAdapter", "RewardModel"),
        "TextData",
    ),
    "errors": ("Finding", "StepError"),
    "extensions": ("Addition", "Extension", "Wiring"),
    "fields": ("Field", "Source", "Target"),
    "hookspecs": ("hookimpl",),
    "launch.hardware": ("Hardware",),
    "launch.options": ("Launch", "Strategy"),
    "lifecycle": ("RunFinished", "RunStarted", "StepFinished", "StepMetrics", "StepStarted"),
    "servers": ("Server", "Terms"),
    "speakers": ("Manner", "Message", "Speaker", "Voice"),
    "stages": (
        *("Align", "Config", "Evaluate", "Format", "Kinds", "Known", "LoadModel", "Merge", "Method", "Publish"),
        *("Quantize", "Train"),
    ),
    "step": ("Step",),
    "trackers": ("Follower", "Tracker"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Adapter",
    "Addition",
    "Align",
    "Artifact",
    "ChatData",
    "Config",
    "Evaluate",
    "Extension",
    "Facts",
    "Field",
    "Finding",
    "Follower",
    "Format",
    "Gguf",
    "GgufAdapter",
    "Hardware",
    "Kinds",
    "Known",
    "Launch",
    "LoadModel",
    "Manner",
    "Merge",
    "Message",
    "Method",
    "Model",
    "PreferenceData",
    "PromptData",
    "Publish",
    "Quantize",
    "QuantizedModel",
    "Release",
    "Report",
    "RewardAdapter",
    "RewardModel",
    "RunFinished",
    "RunStarted",
    "Server",
    "Source",
    "Speaker",
    "Step",
    "StepError",
    "StepFinished",
    "StepMetrics",
    "StepStarted",
    "Strategy",
    "Target",
    "Terms",
    "TextData",
    "Tracker",
    "Train",
    "Voice",
    "Wiring",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tuneforge' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value
