"""`python -m kdtw_jax` is the command `kdtw`."""

from kdtw_jax.commands import cli

cli.main()
