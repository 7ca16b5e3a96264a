"""How short an output may be, predicted from the length of its source.

Shape letters: N examples.
"""

import numpy as np

from kdtw_jax.data.pipeline import encode_task
from kdtw_jax.data.published_tokenizer import AnyTokenizer
from kdtw_jax.data.tokenised import TokenisedSplit


def shortest_output(
    split: TokenisedSplit, tokenizer: AnyTokenizer, quantile: float
) -> tuple[float, float]:
  """Fits a low quantile of the length of references as a line in the length of sources.

  The slope is of least squares, and the intercept the quantile of the residuals.

  Args:
    split: N tokenised examples.
    tokenizer: its tokenizer; the teacher reads the task before each source.
    quantile: share of the outputs that may be shorter, 0..1.

  Returns:
    (a, b): an output has at least a + b · (tokens that the teacher reads) tokens, EOS included.
  """
  sources, targets = (np.diff(side.starts).astype(float) for side in (split.source, split.target))
  sources = sources + len(encode_task(tokenizer, split.task))
  spread = sources - sources.mean()
  slope = float(spread @ targets / max(spread @ spread, 1e-9))
  return float(np.quantile(targets - slope * sources, quantile)), slope
