"""Division of the examples of train into train, validation and test, by a hash of their sources.

Every source text has a place in [0, 1) that depends on the text and a seed alone. Validation gets
the lowest places and test the highest, so examples with the same source are always in one split,
and the order of the file does not matter.
"""

from collections.abc import Collection
import hashlib

from jaxtyping import Float
import numpy as np

from kdtw_jax.data.example import SelectedSource, Source
from kdtw_jax.data.hashing import hash_ids
from kdtw_jax.data.normalising import normalise

_PURPOSE = 7  # the salt of this use of the hash


def hold_out(
    source: Source,
    split: str,
    *,
    divided: Collection[str],
    held_out: float,
    seed: int,
    limit: int = 0,
) -> SelectedSource:
  """Returns the part of the examples that belongs to a split.

  Args:
    source: all examples.
    split: "train", or one of `divided`.
    divided: the splits that are held out of train: "validation", "test" or both.
    held_out: share of the examples, below 0.5, or number of examples, in each of `divided`. With a
      share, an example keeps its split when others are added. A number is met exactly but for equal
      sources at its border, and a few examples there change splits when others are added.
    seed: other seeds divide otherwise.
    limit: largest number of examples to keep, the first ones; 0 keeps all.

  Returns:
    The examples in the order of `source`, numbered anew.

  Raises:
    ValueError: if one of the splits would have no example.
  """
  places = _places(source, seed)
  low, high = _borders(places, held_out)
  parts = {
      "validation": (places <= low) & ("validation" in divided),
      "test": (places >= high) & ("test" in divided),
  }
  parts["train"] = ~(parts["validation"] | parts["test"])
  sizes = {name: int(parts[name].sum()) for name in ("train", *divided)}
  if not all(sizes.values()) or (parts["validation"] & parts["test"]).any():
    said = ", ".join(f"{size:,} of {name}" for name, size in sizes.items())
    raise ValueError(
        f"config.data.held_out={held_out:g}: divides {len(source):,} examples into {said}: each "
        "split needs some of its own; change it, or give more examples"
    )
  kept = np.flatnonzero(parts[split])[: limit or None]
  return SelectedSource(source, kept)


def _borders(places: Float[np.ndarray, " E"], held_out: float) -> tuple[float, float]:
  """Returns the highest place of validation and the lowest of test."""
  if held_out < 1:
    return float(np.nextafter(held_out, 0)), 1 - held_out
  number = min(round(held_out), len(places))
  ordered = np.sort(places)
  return float(ordered[number - 1]), float(ordered[-number])


def _places(source: Source, seed: int) -> Float[np.ndarray, " E"]:
  """Returns the place of each example in [0, 1); texts that a tokenizer reads alike have one."""
  digest = b"".join(
      hashlib.blake2b(normalise(example.source).encode("utf-8"), digest_size=8).digest()
      for example in source
  )
  hashes = hash_ids(np.frombuffer(digest, "<u8"), seed, _PURPOSE)
  return (hashes >> np.uint64(11)).astype(np.float64) / 2.0**53
