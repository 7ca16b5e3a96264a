"""What every per-token loss must hold, whatever it computes."""

from collections.abc import Callable
import doctest
import importlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.test_util import check_grads
import numpy as np
import pytest

from kdtw_jax import distributions, losses
from kdtw_jax.base import MASKED_LOGIT

B, T, V = 3, 5, 6
ENDED = np.array([True, False, True])


class Case(NamedTuple):
  """A loss of float arrays (differentiated) and others, all with leading axes `[B, T]` or `[B]`."""

  fn: Callable[..., jax.Array]
  floats: tuple[str, ...]
  others: tuple[str, ...] = ()
  pointwise: bool = True  # position t of the result needs position t of the inputs only


def path_loss(values, rewards, entropies, mask, ended, **settings):
  errors, valid = losses.path_consistency_error(
      values, rewards, entropies, mask, ended, gamma=0.9, segment_length=2, **settings
  )
  return losses.path_consistency_loss(errors, valid)


CASES = {
    "cross_entropy": Case(losses.cross_entropy, ("logits",), ("tokens",)),
    "smoothed_cross_entropy": Case(
        lambda z, y: losses.cross_entropy(z, y, label_smoothing=0.1), ("logits",), ("tokens",)
    ),
    "taken_log_probs": Case(losses.taken_log_probs, ("logits",), ("tokens",)),
    "forward_kl": Case(losses.forward_kl, ("teacher_logits", "logits")),
    "reverse_kl": Case(losses.reverse_kl, ("teacher_logits", "logits")),
    "generalized_jsd": Case(
        lambda t, s: losses.generalized_jsd(t, s, beta=0.3), ("teacher_logits", "logits")
    ),
    "skew_kl": Case(losses.skew_kl, ("teacher_logits", "logits")),
    "skew_reverse_kl": Case(losses.skew_reverse_kl, ("teacher_logits", "logits")),
    "teacher_choice": Case(losses.teacher_choice, ("teacher_logits", "logits")),
    "expected_rewards": Case(
        lambda t, s: losses.expected_rewards(t, s, alpha=0.7, floor=-20.0),
        ("teacher_logits", "logits"),
    ),
    "log_prob_gap": Case(distributions.log_prob_gap, ("teacher_logits", "logits")),
    "entropy": Case(distributions.entropy, ("logits",)),
    "logsumexp_values": Case(
        lambda z, g: losses.logsumexp_values(z, g, alpha=0.7, gate_alpha=0.3),
        ("logits", "gate_logits"),
    ),
    "gated_entropies": Case(
        lambda p, g, a: losses.gated_entropies(p, g, a, alpha=0.7, gate_alpha=0.3),
        ("log_probs", "gate_logits"),
        ("asked",),
    ),
    "gate_advantage_error": Case(
        lambda g, d, p: losses.gate_advantage_error(g, d, p, gate_alpha=0.3),
        ("gate_logits",),
        ("difficulties", "duals"),
    ),
    "gate_cross_entropy": Case(
        lambda g, d, p: losses.gate_cross_entropy(g, losses.gate_targets(d, p, gate_alpha=0.3)),
        ("gate_logits",),
        ("difficulties", "duals"),
    ),
    "lagrangian_rewards": Case(
        lambda p, a, d, h: losses.lagrangian_rewards(p, a, d, -h, alpha=0.7),
        (),
        ("log_probs", "asked", "duals", "entropies"),
    ),
    "path_consistency": Case(
        path_loss, ("values", "log_probs", "entropies"), ("mask", "ended"), pointwise=False
    ),
    "cost_consistency": Case(
        lambda v, asked, mask: losses.cost_consistency_error(
            v, asked, mask, np.ones(len(mask), bool)
        )[0],
        ("values",),
        ("asked", "mask"),
        pointwise=False,
    ),
}


def arrays():
  rng = np.random.default_rng(0)
  logits, teacher_logits = rng.normal(size=(2, B, T, V)).astype(np.float32)
  logits[..., 3] = teacher_logits[..., 3] = MASKED_LOGIT
  floats = rng.normal(size=(5, B, T)).astype(np.float32)
  return {
      "logits": logits,
      "teacher_logits": teacher_logits,
      "tokens": rng.choice([0, 1, 2, 4, 5], size=(B, T)),
      "values": floats[0],
      "entropies": -np.abs(floats[1]),
      "log_probs": -np.abs(floats[2]),
      "gate_logits": floats[3],
      "difficulties": np.abs(floats[4]),
      "duals": np.array([0.0, 1.0, 2.0], np.float32),
      "asked": rng.random((B, T)) < 0.4,
      "mask": np.arange(T)[None] < np.array([[5], [3], [2]]),
      "ended": ENDED,
  }


def inputs(case, source=None):
  source = arrays() if source is None else source
  return tuple(source[name] for name in case.floats), tuple(source[name] for name in case.others)


COMPILED = {name: jax.jit(case.fn) for name, case in CASES.items()}


def compiled(case):
  """The loss, compiled once per shape for this whole file."""
  return next(COMPILED[name] for name, other in CASES.items() if other is case)


def evaluate(case, source=None):
  floats, others = inputs(case, source)
  return np.asarray(compiled(case)(*floats, *others))


every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@every_case
def test_one_float32_per_token_from_any_precision(case):
  floats, others = inputs(case)
  for dtype in (jnp.float32, jnp.bfloat16):
    result = jax.eval_shape(case.fn, *(jnp.asarray(a, dtype) for a in floats), *others)
    assert result.shape == (B, T) and result.dtype == jnp.float32


@every_case
def test_a_row_by_itself_cut_to_its_length_equals_its_masked_self(case):
  source = arrays()
  source["mask"][:, 3:] = False  # the last positions of every row are padding, to be cut off
  mask = source["mask"] if not case.pointwise else np.arange(T)[None].repeat(B, 0) < 3
  whole = evaluate(case, source)
  total = 0.0
  for row in range(B):
    alone = {
        n: a[row : row + 1] if a.ndim == 1 else a[row : row + 1, :3] for n, a in source.items()
    }
    sliced = evaluate(case, alone)
    kept = mask[row, :3]
    np.testing.assert_allclose(sliced[0, kept], whole[row, :3][kept], rtol=1e-6, atol=1e-7)
    total += sliced[0, kept].sum()
  np.testing.assert_allclose(losses.token_mean(whole, mask).value(), total / mask.sum(), rtol=1e-5)


@every_case
def test_jit_equals_eager(case):
  floats, others = inputs(case)
  eager = case.fn(*floats, *others)
  np.testing.assert_allclose(evaluate(case), eager, rtol=1e-5, atol=1e-6)


DIFFERENTIABLE = {
    name: case
    for name, case in CASES.items()
    if case.floats and case.fn is not distributions.log_prob_gap
}


@pytest.mark.parametrize("case", DIFFERENTIABLE.values(), ids=DIFFERENTIABLE.keys())
def test_gradients_match_differences(case):
  """Of all losses but those that are constant in what is trained, which have tests of their own."""
  floats, others = inputs(case)
  open_entries = np.arange(V) != 3  # a masked entry moves by whole units of float32 or not at all

  def total(*moved):
    moved = [
        jnp.where(open_entries[None, None], new, old) if old.ndim == 3 else new
        for new, old in zip(moved, floats, strict=True)
    ]
    return jnp.sum(jnp.sin(jnp.arange(B * T).reshape(B, T)) * case.fn(*moved, *others))

  check_grads(jax.jit(total), floats, order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


@every_case
def test_extremes_have_finite_values_and_gradients(case):
  argnums = tuple(range(len(case.floats)))
  total = lambda *args: jnp.sum(case.fn(*args))  # noqa: E731
  grad_fn = jax.jit(jax.grad(total, argnums)) if argnums else lambda *args: ()
  for size in (1e2, 1e4, 1e8):
    source = arrays()
    for name in ("logits", "teacher_logits"):
      source[name] = np.where(source[name] == MASKED_LOGIT, MASKED_LOGIT, source[name] * size)
    for name in ("values", "entropies", "log_probs", "gate_logits", "difficulties", "duals"):
      source[name] = source[name] * np.float32(size)
    floats, others = inputs(case, source)
    assert np.all(np.isfinite(evaluate(case, source)))
    for grad in grad_fn(*floats, *others):
      assert np.all(np.isfinite(grad))


@pytest.mark.parametrize("module", ["path_consistency", "reductions", "sequence_chunks"])
def test_docstring_examples_run(module):
  result = doctest.testmod(importlib.import_module(f"kdtw_jax.losses.{module}"))
  assert result.failed == 0 and result.attempted > 0
