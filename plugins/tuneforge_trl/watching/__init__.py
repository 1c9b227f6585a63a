"""A training while it goes on: its troubles, its held-out loss, its answers, its checkpoints."""
