"""Talking to artifacts: `tuneforge chat`."""
