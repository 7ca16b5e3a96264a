"""Measuring a pair: scores, curves, comparisons, speed. Import the modules themselves."""
