"""Wall-clock time of decoding: seconds per sentence at batch 1, and tokens per second of a batch.

Every shape is compiled and run once before it is timed.
"""

from collections.abc import Callable, Sequence
import time
from typing import Any

import jax
import numpy as np

from kdtw_jax import processes
from kdtw_jax.base import Batch
from kdtw_jax.evaluation.record import Seconds

_REPEATS = 3


def seconds_per_sentence(decode: Callable[[Batch], Any], sentences: Sequence[Batch]) -> Seconds:
  """Times sentences one by one.

  Args:
    decode: decodes a batch of one row; the timing waits for its result.
    sentences: batches of one row.
  """
  for sentence in {np.shape(s.student_source): s for s in sentences}.values():  # one per shape
    jax.block_until_ready(decode(sentence))
  seconds, tokens = [], 0
  for sentence in sentences:
    started = time.perf_counter()
    result = jax.block_until_ready(decode(sentence))
    seconds.append(time.perf_counter() - started)
    tokens += int(result.length.sum())
  seconds = processes.of_first(seconds)  # what is measured decides what is decoded next
  return Seconds(
      mean=float(np.mean(seconds)),
      p50=float(np.percentile(seconds, 50)),
      p95=float(np.percentile(seconds, 95)),
      tokens=tokens / len(sentences),
  )


def tokens_per_second(decode: Callable[[Batch], Any], batch: Batch) -> float:
  """Returns output tokens per second on one batch, the median of a few runs."""
  tokens = int(jax.block_until_ready(decode(batch)).length.sum())
  seconds = []
  for _ in range(_REPEATS):
    started = time.perf_counter()
    jax.block_until_ready(decode(batch))
    seconds.append(time.perf_counter() - started)
  return tokens / float(np.median(processes.of_first(seconds)))
