"""Alignment on preferences: pairs of a better and a worse answer, or single answers with a thumb up or down."""
