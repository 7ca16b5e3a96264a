"""Which words the student asks for: the teacher's share of tokens by kind of word.

If the source tags its examples (as the phrasebook does), the kinds are its tags, and all other
words are `frame`. Otherwise words are grouped by their frequency in the training targets.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from kdtw_jax.data import AnyTokenizer, Example, Source
from kdtw_jax.evaluation.outputs import Outputs
from kdtw_jax.evaluation.record import WordGroup

MOST_TARGETS = 100_000  # most training targets that ranks are counted in
EOS_PIECE = "</s>"
# Frequency classes of untagged sources, by a word's rank in the training targets.
RANKS = ((100, "the 100 most frequent"), (1000, "up to rank 1,000"), (5000, "up to rank 5,000"))


def difficulty_map(
    outputs: Outputs,
    examples: Sequence[Example] | Source,
    tokenizer: AnyTokenizer,
    training: Source,
) -> tuple[WordGroup, ...]:
  """Groups output tokens by kind of word.

  Args:
    outputs: outputs of a split, with who wrote each token.
    examples: the example of each output.
    tokenizer: the tokenizer of the outputs.
    training: the training split, read if the examples have no tags.

  Returns:
    The groups, sorted by kind and frequency.
  """
  tagged = any(examples[i].tags for i in range(min(len(examples), 100)))
  ranks = {} if tagged else _ranks(training)
  counts = defaultdict(lambda: np.zeros(2, int))
  for i, (ids, by_teacher) in enumerate(zip(outputs.ids, outputs.by_teacher, strict=True)):
    groups = (
        _by_tag(ids, examples[i].tags, tokenizer) if tagged else _by_rank(ids, ranks, tokenizer)
    )
    for group, teacher in zip(groups, by_teacher, strict=True):
      counts[group] += (1, int(teacher))
  return tuple(
      WordGroup(kind, frequency, int(tokens), float(asked / tokens))
      for (kind, frequency), (tokens, asked) in sorted(counts.items())
  )


def _by_tag(
    ids: Sequence[int], tags: Iterable[tuple[str, ...]], tokenizer: AnyTokenizer
) -> list[tuple[str, str]]:
  pieces = tokenizer.pieces(ids)
  ends = np.cumsum([len(piece) for piece in pieces])
  text = "".join(pieces).replace("▁", " ")
  groups = [("frame", "")] * len(pieces)
  for kind, surface, frequency in tags:
    start = text.find(surface)
    if start < 0:
      continue  # the output puts it differently
    for j, (piece, end) in enumerate(zip(pieces, ends, strict=True)):
      if end > start and end - len(piece) < start + len(surface):
        groups[j] = (kind, frequency)
  return groups


def _by_rank(
    ids: Sequence[int], ranks: dict[str, int], tokenizer: AnyTokenizer
) -> list[tuple[str, str]]:
  words, owner = [], []
  for piece in tokenizer.pieces(ids):
    if piece.startswith("▁") or piece == EOS_PIECE or not words:
      words.append("")
    words[-1] += piece.lstrip("▁")
    owner.append(len(words) - 1)
  classes = [
      "end of the text" if word == EOS_PIECE else _rank_class(ranks.get(word.strip(".,!?")))
      for word in words
  ]
  return [("word", classes[i]) for i in owner]


def _rank_class(rank: int | None) -> str:
  if rank is None:
    return "not in training"
  return next((name for limit, name in RANKS if rank < limit), "rarer")


def _ranks(training: Source) -> dict[str, int]:
  words = Counter(
      word.strip(".,!?")
      for i in range(min(len(training), MOST_TARGETS))
      for word in training[i].target.split()
  )
  return {word: rank for rank, (word, _) in enumerate(words.most_common())}
