"""Helpers that plugins share. They may import heavy packages: a method imports them inside `run`."""
