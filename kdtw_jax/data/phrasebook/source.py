"""Phrases by number: a frame, and a filler for each of its slots.

Nothing is downloaded. Frames and rules (dates, times, numbers) are easy. Names have Zipfian
frequencies, so a small model learns the frequent ones and only a large one learns the rest. Phrase
i of a split is a pure function of (seed, split, i). No phrase is in two splits, whatever the seeds,
because a hash of the frame and its fillers decides the split of a phrase. A phrase may occur twice
in the same split.
"""

import hashlib
import itertools
import random
import re
from typing import Any, NamedTuple, SupportsIndex

from kdtw_jax.data.example import Example, check_index
from kdtw_jax.data.phrasebook.frames import FRAMES
from kdtw_jax.data.phrasebook.slots import Slot, make_slots

# The parts of each split, out of four equal parts of all phrases.
_PARTS = {"train": (0, 1), "validation": (2,), "test": (3,)}
_SLOT = re.compile(r"\{(\w+?)(\d?)\}")


class _Frame(NamedTuple):
  source: str
  target: str
  slots: tuple[tuple[str, str], ...]  # (name in the frame, kind)


class PhrasebookSource:
  """One split of the phrasebook, with random access by number."""

  def __init__(self, split: str, *, size: int, seed: int):
    """Opens a split.

    Args:
      split: "train", "validation" or "test".
      size: number of phrases.
      seed: seed of the phrases and of the names' frequencies; use the same for all splits.

    Raises:
      ValueError: if the split is unknown, or size is below 1.
    """
    if split not in _PARTS:
      raise ValueError(f"phrasebook split={split!r}: must be one of {', '.join(_PARTS)}")
    if size < 1:
      raise ValueError(
          f"config.data.num_{split}={size}: the phrasebook is endless, say how many phrases (>= 1)"
      )
    self._split = split
    self._size = size
    self._seed = seed
    self._slots = make_slots(seed)

  def __len__(self) -> int:
    return self._size

  def __getitem__(self, index: SupportsIndex) -> Example:
    number = check_index(index, self._size)
    rng = random.Random(f"{self._seed}/{self._split}/{number}")
    for _ in itertools.count():  # a quarter or half of all phrases belong to this split
      frame = rng.choice(_FRAMES)
      values = _draw_values(frame, self._slots, rng)
      if _part(frame, values) in _PARTS[self._split]:
        break
    return self._write(number, frame, values)

  def _write(self, number: int, frame: _Frame, values: tuple[tuple[Any, ...], ...]) -> Example:
    fillers = {
        name: self._slots[kind].word(value)
        for (name, kind), value in zip(frame.slots, values, strict=True)
    }
    source = frame.source.format_map({name: filler.source for name, filler in fillers.items()})
    target = frame.target.format_map({name: filler.target for name, filler in fillers.items()})
    tags = tuple(tag for filler in fillers.values() for tag in filler.tags)
    return Example(number, source, target, (target,), tags)


def _parse(source: str, target: str) -> _Frame:
  slots = tuple((kind + digit, kind) for kind, digit in _SLOT.findall(source))
  return _Frame(source, target, slots)


def _draw_values(
    frame: _Frame, slots: dict[str, Slot], rng: random.Random
) -> tuple[tuple[Any, ...], ...]:
  """Draws a value per slot; slots of the same kind get different values."""
  values: list[tuple[Any, ...]] = []
  for _, kind in frame.slots:
    value = slots[kind].draw(rng)
    while value in values:
      value = slots[kind].draw(rng)
    values.append(value)
  return tuple(values)


def _part(frame: _Frame, values: tuple[tuple[Any, ...], ...]) -> int:
  key = repr((frame.source, values)).encode()
  return hashlib.blake2b(key, digest_size=1).digest()[0] % 4


_FRAMES = tuple(_parse(source, target) for source, target in FRAMES)
