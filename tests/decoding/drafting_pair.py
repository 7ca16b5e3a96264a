"""A pair of fake models that draft and check, and the distribution of what they draw."""

import functools

import jax
import numpy as np
from prefix_models import FNS, MODULUS, NumpyModel, greedy_decode, make_params, padded, sources
import scipy.stats

from kdtw_jax import base
from kdtw_jax.decoding import Sampling, make_decoder

B, T = 6, 24
STUDENT = make_params(1, noise=0.7, eos_bias=-1.0)
TEACHER = make_params(2, noise=0.7, eos_bias=-1.0)
SOURCE = sources(B)
STUDENT_SOURCE = np.concatenate([np.array([[MODULUS - 9, 9]] * B, np.int32), SOURCE], axis=1)


@functools.cache
def decoder_of(max_length, temperature):
  return make_decoder(FNS, FNS, max_length=max_length, sampling=Sampling(temperature=temperature))


def run(policy, *, max_length=T, student_source=STUDENT_SOURCE, source=SOURCE, temperature=0.0):
  args = (STUDENT, TEACHER, student_source, source, np.ones((len(source),), np.float32))
  out = decoder_of(max_length, temperature)(*args, jax.random.key(7), policy)
  return jax.tree.map(np.asarray, out)


def alone(params, source):
  model = NumpyModel(params, T)
  return padded([greedy_decode(model, row, T) for row in source], T)


MANY, SHORT = 30_000, 3


def softmax(logits):
  exp = np.exp(np.float64(logits) - np.max(logits))
  return exp / exp.sum()


def probs(prefix):
  """(q, p) of the fakes after a prefix, float64."""
  student, teacher = NumpyModel(STUDENT, T), NumpyModel(TEACHER, T)
  return (
      softmax(student.logits[student.state(STUDENT_SOURCE[0], prefix)]),
      softmax(teacher.logits[teacher.state(SOURCE[0], prefix)]),
  )


def of_teacher(q, p):
  del q
  return p


def joint(chain, length, prefix=(), last=None):
  """{tokens: probability} of all outputs of at most `length` tokens under a chain (q, p) -> π.

  `last` is the chain of token number `length`: a policy with a bonus token drafts no further.
  """
  if len(prefix) == length or base.EOS_ID in prefix:
    return {prefix: 1.0}
  found = {}
  here = last if last and len(prefix) == length - 1 else chain
  for v, weight in enumerate(here(*probs(list(prefix)))):
    if weight > 0:
      rest = joint(chain, length, (*prefix, v), last)
      found.update({tokens: weight * part for tokens, part in rest.items()})
  return found


def counted(policy, temperature=1.0):
  wide = (np.broadcast_to(x[:1], (MANY, x.shape[1])) for x in (STUDENT_SOURCE, SOURCE))
  student_source, source = wide
  out = run(
      policy,
      max_length=SHORT,
      student_source=student_source,
      source=source,
      temperature=temperature,
  )
  rows, counts = np.unique(out.tokens, axis=0, return_counts=True)
  return {
      tuple(int(v) for v in row if v != base.PAD_ID): n for row, n in zip(rows, counts, strict=True)
  }


def assert_drawn_from(expected, policy):
  """Chi-square of drawn outputs against {tokens: probability}; rare ones in one cell."""
  assert abs(sum(expected.values()) - 1) < 1e-9
  found = counted(policy)
  assert set(found) <= set(expected)
  common = [tokens for tokens, p in expected.items() if p * MANY >= 10]
  cells = np.array([found.get(tokens, 0) for tokens in common], np.float64)
  wanted = np.array([expected[tokens] * MANY for tokens in common])
  cells, wanted = np.append(cells, MANY - cells.sum()), np.append(wanted, MANY - wanted.sum())
  assert len(common) > 50
  assert scipy.stats.chisquare(cells, wanted).pvalue > 1e-3
