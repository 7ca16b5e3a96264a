"""The report of a run, or of several, made from their metrics only; never imports jax."""

from kdtw_jax.report.build import METRICS_FILE as METRICS_FILE
from kdtw_jax.report.build import write_comparison as write_comparison
from kdtw_jax.report.build import write_page as write_page
from kdtw_jax.report.build import write_report as write_report
from kdtw_jax.report.terminal import print_runs as print_runs
from kdtw_jax.report.terminal import print_summary as print_summary
