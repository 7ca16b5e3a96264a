"""A stateless hash of integers: a draw depends on what it is for, not on what came before it.

Not cryptographic. `splitmix64`, Steele, Lea and Flood 2014, https://doi.org/10.1145/2660193.2660195.
"""

from jaxtyping import UInt64
import numpy as np


def hash_ids(ids: np.ndarray, *salts: int) -> UInt64[np.ndarray, " E"]:
  """Gives one well-mixed 64-bit number per id and sequence of salts.

  Args:
    ids: `[E]` integers.
    *salts: integers such as a seed, an epoch, the number of a purpose.

  Returns:
    `[E]` uint64, equal for equal arguments in every process.
  """
  state = np.zeros(1, np.uint64)
  for salt in salts:
    state = _mix(state + np.array([salt % 2**64], np.uint64))
  return _mix(ids.astype(np.uint64) + state)


def _mix(x: np.ndarray) -> np.ndarray:
  x = x + np.uint64(0x9E3779B97F4A7C15)
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return x ^ (x >> np.uint64(31))
