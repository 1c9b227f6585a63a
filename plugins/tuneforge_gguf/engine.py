"""The heavy part of the export, in one place for the worker to import.

An environment that only quantizes has no transformers, one that only converts no llama-cpp-python: what is there is
imported.
"""

from importlib.util import find_spec

from .making import make

if find_spec("transformers"):
    from . import export  # noqa: F401 - for the time it takes; what verifies takes memory that converting needs
if find_spec("llama_cpp"):
    import llama_cpp  # noqa: F401

__all__ = ["make"]
