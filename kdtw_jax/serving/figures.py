"""What the server counts, for Prometheus."""

import prometheus_client as prometheus

from kdtw_jax.serving.engine import Engine
from kdtw_jax.serving.lane import End

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class Figures:
  """Counters and times of one server."""

  def __init__(self, engine: Engine):
    """Takes the engine whose requests are counted."""
    self._registry = registry = prometheus.CollectorRegistry()
    self._requests = prometheus.Counter(
        "kdtw_requests", "Texts that were read, by how they ended", ["end"], registry=registry
    )
    self._tokens = prometheus.Counter(
        "kdtw_tokens", "Output tokens by who wrote them", ["by"], registry=registry
    )
    self._calls = prometheus.Counter(
        "kdtw_teacher_calls", "Calls of the teacher", registry=registry
    )
    self._first = prometheus.Histogram(
        "kdtw_first_piece_seconds",
        "From a text to the first piece of its output",
        buckets=_SECONDS,
        registry=registry,
    )
    self._whole = prometheus.Histogram(
        "kdtw_output_seconds",
        "From a text to the end of its output",
        buckets=_SECONDS,
        registry=registry,
    )
    unfinished = prometheus.Gauge(
        "kdtw_unfinished_requests", "Texts that are written or wait", registry=registry
    )
    unfinished.set_function(lambda: engine.unfinished)

  def ended(self, how: str, texts: int = 1) -> None:
    """Counts texts that ended otherwise than with their output: refused, gone, failed."""
    self._requests.labels(how).inc(texts)

  def began(self, seconds: float) -> None:
    """Notes the time to the first piece."""
    self._first.observe(seconds)

  def finished(self, end: End, seconds: float) -> None:
    """Counts an output."""
    out = end.written
    self._requests.labels("finished").inc()
    self._tokens.labels("teacher").inc(sum(out.by_teacher))
    self._tokens.labels("student").inc(len(out.tokens) - sum(out.by_teacher))
    self._calls.inc(out.calls)
    self._whole.observe(seconds)

  def page(self) -> tuple[bytes, str]:
    """Returns the page for Prometheus and its content type."""
    return prometheus.generate_latest(self._registry), prometheus.CONTENT_TYPE_LATEST
