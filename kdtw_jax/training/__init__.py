"""Training: what a stage minimises, one compiled step, and the loop around it."""
