"""What a plugin author imports."""

from .artifacts import Adapter, Artifact, ChatData, Facts, Gguf, Model, PreferenceData, Release, Report
from .errors import Finding, StepError
from .fields import Field, Source, Target
from .hookspecs import hookimpl
from .stages import Align, Config, Evaluate, Format, Kinds, Known, LoadModel, Merge, Method, Publish, Quantize, Train
from .step import Step

__version__ = "0.1.0"

__all__ = [
    "Adapter",
    "Align",
    "Artifact",
    "ChatData",
    "Config",
    "Evaluate",
    "Facts",
    "Field",
    "Finding",
    "Format",
    "Gguf",
    "Kinds",
    "Known",
    "LoadModel",
    "Merge",
    "Method",
    "Model",
    "PreferenceData",
    "Publish",
    "Quantize",
    "Release",
    "Report",
    "Source",
    "Step",
    "StepError",
    "Target",
    "Train",
    "hookimpl",
]
