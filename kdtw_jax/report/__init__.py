"""The report of a run, made from its metrics only; never imports jax."""

from kdtw_jax.report.build import write_report as write_report
from kdtw_jax.report.terminal import print_summary as print_summary
