"""Measuring a pair: scores, curves, comparisons and speed. Import the modules directly."""
