"""What the registry refuses, and what to do about it."""

from __future__ import annotations


class RegistryError(Exception):
    """A problem with the registry or with what it was asked, in `problem`, and the remedy, in `fix`."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem, fix)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return self.problem
