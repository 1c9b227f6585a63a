"""The heavy part of the export, in one place for the worker to import."""

from .converter import fetch_converter
from .export import export
from .verify import verify

__all__ = ["export", "fetch_converter", "verify"]
