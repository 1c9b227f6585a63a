"""Which layers of a model get an adapter, and which weights are trained."""
