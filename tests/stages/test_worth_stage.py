"""What help is worth: its labels against a rollout in plain Python, and heads that learn a toy."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from kdtw_jax import config as config_lib
from kdtw_jax.base import EOS_ID, PAD_ID
from kdtw_jax.data.example import InMemorySource
from kdtw_jax.decoding import make_policy
from kdtw_jax.evaluation import methods, metrics
from kdtw_jax.models import knows_worth, shift_right
from kdtw_jax.pair import load_pair
from kdtw_jax.stages import worth
from kdtw_jax.stages.decisions import Decisions, _log_mu, in_points, make_collector
from tests import tiny, tiny_pair

T, TOLERANCE = 7, 0.3


def scaled():
  """The tiny pair with larger embeddings, so that its predictions are not all alike."""
  found = []
  for params in tiny.params():
    shared = {**params["shared"], "embedding": params["shared"]["embedding"] * 4.0}
    found.append({**params, "shared": shared})
  return found


@pytest.fixture(scope="module")
def collected():
  batch = tiny.batch(rows=8)
  collect = make_collector(tiny.models(), tolerance=TOLERANCE, max_length=T, readout_chunk=3)
  return batch, collect(*scaled(), [batch])


def log_probs(who, params, source, tokens):
  """A model's [T, V] log-probs after each prefix of one output; PAD_ID is never written."""
  padded = np.zeros((1, T), np.int32)
  padded[0, : len(tokens)] = tokens
  hidden = who.hidden(params, who.encode(params, source[None]), shift_right(padded))
  logits = np.array(who.logits(params, hidden))[0]
  return logits - np.asarray(jax.nn.logsumexp(logits, axis=-1, keepdims=True))


def greedy(table, t):
  return int(np.argmax(np.where(np.arange(table.shape[1]) == PAD_ID, -np.inf, table[t])))


def reference(student_source, teacher_source):
  """[(draft, calls before it)] of one row that is helped until clean, its output and its calls."""
  (student, teacher), (params, teacher_params) = tiny.models(), scaled()
  kept, calls, made = [], 0, []
  while True:
    tokens = list(kept)
    while len(tokens) < T and EOS_ID not in tokens:
      tokens.append(greedy(log_probs(student, params, student_source, tokens), len(tokens)))
    made.append((tokens, calls))
    calls += 1
    table = log_probs(teacher, teacher_params, teacher_source, tokens)
    best = [greedy(table, t) for t in range(len(tokens))]
    bad = [t for t, v in enumerate(tokens) if table[t, best[t]] - table[t, v] > TOLERANCE]
    bad = [t for t in bad if t >= len(kept)]
    if not bad:
      return made, tokens, calls
    kept = [*tokens[: bad[0]], best[bad[0]]]
    if len(kept) == T or kept[-1] == EOS_ID:
      return made, kept, calls


def log_mu(source, tokens):
  teacher, params = tiny.models().teacher, scaled()[1]
  table = log_probs(teacher, params, source, tokens)
  return sum(table[t, v] for t, v in enumerate(tokens))


def test_labels_equal_a_rollout_in_plain_python(collected):
  batch, found = collected
  total = 0
  for b in range(len(batch.example_id)):
    made, final, calls = reference(batch.student_source[b], batch.teacher_source[b])
    mine = found.take(found.example_id == batch.example_id[b])
    assert len(mine.calls) == len(made)
    order = np.argsort(mine.signals[:, -1])  # by the calls so far
    after = log_mu(batch.teacher_source[b], final)
    for i, (draft, before) in zip(order, made, strict=True):
      assert mine.draft[i][mine.draft[i] != PAD_ID].tolist() == draft
      assert mine.final[i][mine.final[i] != PAD_ID].tolist() == final
      assert mine.calls[i] == calls - before
      assert mine.signals[i, -2] == len(draft) and mine.signals[i, -1] == before
      gain = max(after - log_mu(batch.teacher_source[b], draft), 0.0)
      np.testing.assert_allclose(mine.gain[i], gain, atol=1e-3)
    total += len(made)
  assert total == len(found.calls) > len(batch.example_id)
  assert (found.gain > 0).any() and len(set(found.calls.tolist())) > 1


def test_the_teacher_scores_nothing_if_gains_will_be_in_points(collected):
  batch, found = collected
  sizes = dict(tolerance=TOLERANCE, max_length=T, readout_chunk=3)
  bare = make_collector(tiny.models(), log_mu=False, **sizes)(*scaled(), [batch])
  assert not bare.gain.any()
  for mine, other in zip(bare, found._replace(gain=bare.gain), strict=True):
    np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("chunk, positions", [(0, T), (3, 3)])
def test_the_logits_of_a_chunk_alone_are_held_when_outputs_are_scored(chunk, positions):
  teacher, params, rows = tiny.models().teacher, tiny.params()[1], np.arange(8)
  tokens = np.ones((8, T), np.int32)
  encoded = teacher.encode(params, tiny.batch(rows=8).teacher_source)
  score = functools.partial(_log_mu, teacher, chunk)
  program = jax.jit(score).lower(params, encoded, rows, tokens).as_text()
  held = {n for n in range(1, T + 1) if f"tensor<8x{n}x{tiny.VOCAB}xf32>" in program}
  assert held == {positions}


@pytest.mark.parametrize("metric", ("bleu", "rouge"))
def test_a_gain_is_what_the_reader_of_an_output_gets(metric):
  """Of each output by itself, against its own references; an output that gets worse gains 0."""
  words = ["the", "red", "house", "is", "old", "."]

  def decode(ids):
    return " ".join(words[i - 1] for i in ids if i)

  tokens = {
      "draft": [[1, 3, 4, 5, 6, 0], [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 0]],
      "final": [[1, 2, 3, 4, 5, 6], [1, 3, 4, 5, 6, 0], [1, 2, 3, 4, 5, 6]],
  }
  text = "the red house is old ."
  source = InMemorySource([("unused", "unused"), ("a", text), ("b", text)])
  zeros = np.zeros((3, 1), np.float32)
  found = Decisions(
      *(zeros, zeros, zeros, zeros[:, 0], np.ones(3, int), np.array([2, 1, 1])),
      **{name: np.array(rows) for name, rows in tokens.items()},
      rollout=np.arange(3),
  )
  gain = in_points(found, source, decode, metric=metric).gain
  (before,) = metrics.each_score(["the house is old ."], [(text,)], metric=metric)
  np.testing.assert_allclose(gain[0], 100 - before, rtol=1e-5)
  assert gain[1] == 0 and (gain[2] > 0) == (metric == "bleu")  # ROUGE reads no full stop


def section(**fields):
  return ml_collections.ConfigDict(
      {"steps": 400, "batch_size": 64, "learning_rate": 1e-2, **fields}
  )


def test_the_head_learns_a_worth_that_is_known():
  """G = 3 x gap and C = 1 + length can be read off the signals."""
  student, params = tiny.models().student, tiny.params()[0]
  rng, width = np.random.default_rng(0), student.config.d_model

  def toy(n):
    states = rng.normal(size=(2, n, width)).astype(np.float32)
    signals = rng.uniform(0, 5, (n, 10)).astype(np.float32)
    nothing = np.zeros(n, int), np.zeros((n, T), int), np.zeros((n, T), int), np.arange(n)
    calls = np.round(1 + signals[:, 8]).astype(int)
    return Decisions(*states, signals, 3 * signals[:, 1], calls, *nothing)

  assert not knows_worth(params)
  head, loss = worth.fit_worth(student, params, (toy(300), toy(500)), section(), seed=0)
  assert knows_worth({**params, "worth": head}) and loss < 0.05
  *inputs, gain, calls = toy(200)[:5]
  found = student.worth({**params, "worth": head}, *map(jnp.asarray, inputs))
  assert np.corrcoef(found.gain, gain)[0, 1] > 0.95
  assert np.corrcoef(found.calls, calls)[0, 1] > 0.9
  assert np.mean(found.calls) == pytest.approx(calls.mean(), rel=0.1)


def test_the_cost_value_comes_to_the_mean_of_noisy_asks():
  """Asks are Poisson with the mean 4 exp(-price); their mean is learned, not their median."""
  student, params = tiny.models().student, tiny.params()[0]
  rng, width, n = np.random.default_rng(1), student.config.d_model, 4000
  price = rng.uniform(0, 3, n).astype(np.float32)
  asks = rng.poisson(4 * np.exp(-price)).astype(np.float32)
  states = rng.normal(size=(n, width)).astype(np.float32)
  toy = worth.AsksToCome(states, price, asks, np.arange(n) % 10)
  head, _ = worth.fit_cost_value(student, params, (toy,), section(steps=800), seed=0)
  inputs = jnp.asarray(toy.hidden)[:, None], jnp.asarray(price)
  found = student.values({**params, "cost_value": head}, *inputs)[1]
  for low in (0.0, 1.0, 2.0):
    rows = (price >= low) & (price < low + 1)
    assert np.mean(found[rows]) == pytest.approx(asks[rows].mean(), abs=0.15)


def test_both_parts_weigh_the_same_whatever_their_sizes():
  parts = ((np.zeros(10, np.float32),), (np.ones(1000, np.float32),))
  mean, _ = worth.fit_head(
      lambda params, x: jnp.mean((params["mean"] - x) ** 2),
      {"mean": jnp.zeros(())},
      "mean",
      parts,
      section(learning_rate=0.05),
      seed=0,
  )
  assert mean == pytest.approx(0.5, abs=0.02)


def test_a_student_that_has_not_learned_it_is_refused(tmp_path):
  untrained = load_pair(tiny_pair.save(tmp_path / "pair"))
  with pytest.raises(ValueError, match="policy='worth': this pair's student has not learned"):
    untrained.write("a dog", policy=make_policy("worth", 1.0))
  with pytest.raises(ValueError, match="policy='worth': this pair's student has not learned"):
    untrained.write("a dog", 0.2, policy="worth")


def test_the_methods_that_need_the_stage_are_found():
  evaluation = config_lib.defaults().evaluation
  with evaluation.unlocked():
    evaluation.methods = ("margin", "worth", "route_gap")
  assert methods.reading_worth(evaluation) == ["worth"]
