"""Rows of a data artifact into labelled tokens, sequences and batches."""
