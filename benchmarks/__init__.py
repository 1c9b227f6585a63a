"""Budgets, measured beside the obvious alternative in the same run. Run as: python -m benchmarks"""
