"""A stateless hash of integers: a random draw depends on its purpose, not on earlier draws.

Not cryptographic. `splitmix64`, Steele, Lea and Flood 2014, https://doi.org/10.1145/2660193.2660195.
"""

from jaxtyping import UInt64
import numpy as np


def hash_ids(ids: np.ndarray, *salts: int) -> UInt64[np.ndarray, " E"]:
  """Hashes each id, together with the salts, to a well-mixed 64-bit number.

  Args:
    ids: `[E]` integers.
    *salts: integers such as a seed, an epoch, or the number of a purpose.

  Returns:
    The hashes, the same for the same arguments in every process.
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
