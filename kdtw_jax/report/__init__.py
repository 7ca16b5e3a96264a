"""The report of a run, built from its metrics alone; never imports jax."""

from kdtw_jax.report.build import write_report as write_report
from kdtw_jax.report.terminal import print_summary as print_summary
