"""Tests of the losses, against oracles in float64 numpy."""
