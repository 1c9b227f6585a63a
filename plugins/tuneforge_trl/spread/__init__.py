"""A training on several processes: the strategies, what ranks do together, the proof that they do."""
