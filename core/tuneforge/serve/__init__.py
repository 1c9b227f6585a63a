"""Serving artifacts to other programs: `tuneforge serve`."""
