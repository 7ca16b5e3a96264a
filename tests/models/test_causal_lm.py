"""A causal model as an encoder-decoder: prompts, masks, windows, the cache, heads."""

import functools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import cached_model, fast_jit

from kdtw_jax.base import EOS_ID, PAD_ID
from kdtw_jax.models import ModelConfig, shift_right
from kdtw_jax.models.rotary import frequencies, rotation

LENGTH = 8
PREFIX, SUFFIX = (20, 21), (22, 23, 24)
TOLERANCE = {"rtol": 0, "atol": 1e-5}
# 4 heads read 2 key heads; the second layer sees 5 tokens.
CAUSAL = {
    "kind": "causal",
    "feed_forward": "gated-silu",
    "num_heads": 4,
    "num_key_heads": 2,
    "windows": (0, 5),
    "prompt_prefix": PREFIX,
    "prompt_suffix": SUFFIX,
}
SOURCE = np.array(
    [[5, 6, 7, 8, 9, 10, EOS_ID], [11, 12, 13, EOS_ID, 0, 0, 0], [4, EOS_ID, 0, 0, 0, 0, 0]],
    np.int32,
)
TARGET = np.random.default_rng(1).integers(4, 30, (3, LENGTH)).astype(np.int32)


def tiny(**changes):
  return cached_model(**{**CAUSAL, **changes})


def positions(*values: int) -> jax.Array:
  return jnp.array(values, jnp.int32)


def whole_pass(prompt: list[int], target: np.ndarray) -> np.ndarray:
  """The states that predict the target of one row, in one pass over prompt and target."""
  tokens = np.array([[*prompt, *target[:-1], EOS_ID]], np.int32)  # this EOS is dropped
  states = tiny(prompt_prefix=(), prompt_suffix=(9,)).encode(tokens).states
  return np.asarray(states[0, len(prompt) - 1 :])


def test_a_prompt_is_prefix_source_suffix_and_output_one_after_the_other():
  found = tiny().forward(SOURCE, TARGET)
  for row, source in enumerate(SOURCE):
    words = [int(i) for i in source if i not in (PAD_ID, EOS_ID)]
    expected = whole_pass([*PREFIX, *words, *SUFFIX], TARGET[row])
    np.testing.assert_allclose(found[row], expected, **TOLERANCE)


def test_without_a_template_the_source_keeps_its_end():
  """Then PAD_ID is the decoder's first input; a row with another id there is the reference."""
  model = tiny(prompt_prefix=(), prompt_suffix=(EOS_ID, PAD_ID))
  assert ModelConfig(vocab_size=9).prompt_suffix == (EOS_ID, PAD_ID)
  table = model.params["shared"]["embedding"]
  free = int(np.setdiff1d(np.arange(14, 30), TARGET)[0])
  moved = {**model.params, "shared": {"embedding": table.at[free].set(table[PAD_ID])}}
  reference = tiny(prompt_prefix=(), prompt_suffix=(9,)).model.encode
  tokens = np.array([[11, 12, 13, EOS_ID, free, *TARGET[1, :-1], EOS_ID]], np.int32)
  np.testing.assert_allclose(
      model.forward(SOURCE[1:2], TARGET[1:2])[0],
      reference(moved, tokens).states[0, 4:],
      **TOLERANCE,
  )


def test_padding_and_batch_mates_change_nothing():
  both = tiny().forward(SOURCE, TARGET)
  alone = tiny().forward(SOURCE[1:2, :4], TARGET[1:2])
  np.testing.assert_allclose(both[1], alone[0], **TOLERANCE)


def test_a_row_of_pure_padding_is_finite():
  assert np.isfinite(tiny().forward(np.zeros_like(SOURCE), np.zeros_like(TARGET))).all()
  changes = {"prompt_prefix": (), "prompt_suffix": (9,)}  # nothing at all before the output
  assert np.isfinite(tiny(**changes).forward(np.zeros_like(SOURCE), TARGET)).all()


def test_no_token_sees_a_later_one():
  changed = TARGET.copy()
  changed[:, 4] = (changed[:, 4] + 3) % 20 + 4
  before, after = tiny().forward(SOURCE, TARGET), tiny().forward(SOURCE, changed)
  np.testing.assert_allclose(before[:, :5], after[:, :5], **TOLERANCE)
  assert np.abs(np.asarray(before - after)[:, 5:]).max(axis=(1, 2)).min() > 1e-2


@pytest.mark.parametrize(("layers", "reach"), [(1, 5), (2, 9)])
def test_a_window_ends_what_a_token_sees(layers, reach):
  """A token sees so many tokens, itself included, in each layer: one fewer further per layer."""
  model = tiny(
      windows=(5,) * layers, num_decoder_layers=layers, prompt_prefix=(), prompt_suffix=(9,)
  )
  source = np.array([[5, 6, 7, 8, 9, 10, 11, 12, 13, EOS_ID]], np.int32)
  start = model.forward(source, TARGET[:1])[0, 0]  # at the place of the source's EOS, 9
  for place in range(9):
    changed = source.copy()
    changed[0, place] = 25
    other = model.forward(changed, TARGET[:1])[0, 0]
    is_seen = 9 - place < reach
    assert (np.abs(np.asarray(start - other)).max() > 1e-6) == is_seen, place


@functools.cache
def case():
  return (
      tiny().start(SOURCE, LENGTH),
      np.asarray(shift_right(TARGET)),
      tiny().forward(SOURCE, TARGET),
  )


@settings(max_examples=15, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from([1, 3]), st.lists(st.integers(-2, 3), min_size=3, max_size=3)),
        min_size=1,
        max_size=8,
    )
)
def test_any_ragged_chunking_and_rollback_equals_one_pass(steps):
  """Each row keeps its own number of inputs, or goes back: what lies after it is stale."""
  cache, inputs, full = case()
  offsets = np.zeros(3, np.int32)
  for size, kept in steps:
    padded = np.pad(inputs, ((0, 0), (0, size)), constant_values=7)
    chunk = np.take_along_axis(padded, offsets[:, None] + np.arange(size)[None], axis=1)
    hidden, cache = tiny().extend(cache, chunk, offsets)
    for row, offset in enumerate(offsets):
      end = min(offset + size, LENGTH)
      np.testing.assert_allclose(hidden[row, : end - offset], full[row, offset:end], **TOLERANCE)
    offsets = np.clip(offsets + np.minimum(kept, size), 0, LENGTH - 1).astype(np.int32)


def test_rows_that_are_no_tokens_are_masked_and_ends_are_one():
  renamed = ((0, 27), (27, 0))
  plain = tiny(num_tokens=28, tau_id=28)
  merged = tiny(num_tokens=28, tau_id=28, renamed_ids=renamed, stop_ids=(6, 9))
  before, after = (
      np.asarray(m.model.logits(plain.params, plain.forward(SOURCE, TARGET)))
      for m in (plain, merged)
  )
  assert (after[..., [PAD_ID, 6, 9, 28, 29]] < -1e8).all()
  ends = np.logaddexp.reduce(before[..., [EOS_ID, 6, 9]], axis=-1)
  np.testing.assert_allclose(after[..., EOS_ID], ends, rtol=1e-6)
  others = np.setdiff1d(np.arange(28), [PAD_ID, EOS_ID, 6, 9])
  np.testing.assert_array_equal(after[..., others], before[..., others])


def test_logits_are_capped_wherever_they_are_made():
  """Those of all rows, and that of the row of `<τ>`, which only its gate reads."""
  cap, hidden, found = 0.5, tiny().forward(SOURCE, TARGET), []
  for model in (tiny(gate="token"), tiny(gate="token", logit_cap=cap)):
    logits, gate, _ = model.model.readout(model.params, jnp.zeros(3), hidden)
    np.testing.assert_array_equal(logits, model.model.logits(model.params, hidden))
    tau = gate - model.params["gate"]["bias"][0] + jax.nn.logsumexp(logits, axis=-1)
    found.append(np.delete(np.concatenate([logits, tau[..., None]], axis=-1), 3, axis=-1))
  assert np.abs(found[0]).max() > 2 * cap
  np.testing.assert_allclose(found[1], cap * np.tanh(found[0] / cap), **TOLERANCE)


def test_every_parameter_learns_and_dropout_needs_a_key():
  heads = {"gate": "difficulty_price", "value_heads": True}
  model = tiny(**heads, dropout_rate=0.5, qkv_bias=True, out_bias=True, score_cap=2.0)

  def loss(params):
    hidden, _, logits, gate = model.outputs(params, SOURCE, TARGET)
    encoded = model.model.encode(params, SOURCE)
    values = model.model.values(params, hidden, model.model.price(params, encoded))
    budget = model.model.budget(params, encoded)
    parts = (jax.nn.logsumexp(logits, -1), logits[..., 5], gate, *values, budget)
    return sum(jnp.sum(jnp.square(part)) for part in parts)

  gradients = fast_jit(jax.grad(loss))(model.params)
  still = {
      jax.tree_util.keystr(path)
      for path, g in jax.tree_util.tree_flatten_with_path(gradients)[0]
      if not np.abs(g).sum() > 0
  }
  # Duals are set by the dual step; values begin constant.
  assert {n for n in still if "value" not in n and "worth" not in n} == {"['price']['duals']"}
  encode = fast_jit(model.model.encode)
  dropped = encode(model.params, SOURCE, dropout_key=jax.random.key(1)).states
  assert not np.allclose(model.encode(SOURCE).states, dropped)


def test_angles_are_those_of_the_paper():
  """A rotated product depends on the distance alone; llama3 scales only long wavelengths."""
  size = 8
  plain = frequencies(size, 100.0)
  np.testing.assert_allclose(plain, [1.0, 100**-0.25, 0.1, 100**-0.75], rtol=1e-6)
  q, k = np.random.default_rng(0).normal(size=(2, 1, 1, 1, size)).astype(np.float32)

  def product(i: int, j: int) -> float:
    turned = (rotation(jnp.array([[n]]), plain)(jnp.asarray(x)) for n, x in ((i, q), (j, k)))
    return float(jnp.sum(functools.reduce(jnp.multiply, turned)))

  np.testing.assert_allclose(product(7, 3), product(104, 100), rtol=1e-4)
  assert abs(product(7, 3) - product(7, 4)) > 1e-3
  np.testing.assert_allclose(frequencies(size, 100.0, ("linear", 4.0)), plain / 4, rtol=1e-6)
  # Of wavelengths 6, 20, 63 and 199: kept below 40 / 4, divided above 40 / 1, between for one.
  scaled = frequencies(size, 100.0, ("llama3", 8.0, 1.0, 4.0, 40.0))
  share = (40 * plain[1] / (2 * np.pi) - 1) / 3
  expected = [plain[0], plain[1] * (share + (1 - share) / 8), plain[2] / 8, plain[3] / 8]
  np.testing.assert_allclose(scaled, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feed_forward": "relu"}, "feed_forward='relu'.*gated-silu"),
        ({"d_kv": 7}, "d_kv=7: must be even"),
        ({"num_key_heads": 3}, "num_key_heads=3: must divide num_heads=4"),
        ({"windows": (5,)}, r"windows=\(5,\): must have one number per layer"),
        ({"windows": (5, -1)}, "must be >= 0"),
        ({"rope_scaling": ("yarn", 2.0)}, "rope_scaling=.*llama3"),
        ({"prompt_suffix": ()}, "prompt_suffix=.*first input"),
        ({"prompt_prefix": (30,)}, "prompt_prefix: row 30 is not in the vocabulary"),
        ({"renamed_ids": ((0, 5),)}, "must name the same rows on both sides"),
        ({"rope_theta": 0.0}, "rope_theta=0.0: must be above 0"),
        ({"logit_cap": -1.0}, "logit_cap=-1.0: must be >= 0"),
        ({"kind": "mamba"}, "kind='mamba': must be one of t5, bart, t5gemma, causal"),
    ],
)
def test_invalid_fields_are_named(changes, message):
  with pytest.raises(ValueError, match=message):
    tiny(**changes)
