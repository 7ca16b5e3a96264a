"""Tokenised splits and batches: determinism, coverage, resume, shapes, sharding, padding."""

import collections
import itertools
import json
import logging

import numpy as np
import pytest

from kdtw_jax.base import EOS_ID, PAD_ID
from kdtw_jax.data import (
    HELD_OUT_WORDINGS,
    TRAIN_WORDINGS,
    TrainingPlan,
    eval_batches,
    render,
    tokenise,
    tokenizer_text,
    train_batches,
    train_tokenizer,
)
from kdtw_jax.data.example import InMemorySource
from kdtw_jax.data.phrasebook import PhrasebookSource

BUCKETS = ((16, 18), (24, 26), (40, 44))
PROMPT_LENGTH = 24
BUDGETS = (0, 0.1, 0.2, 0.5)


@pytest.fixture(scope="module")
def source():
  return PhrasebookSource("train", size=500, seed=0)


@pytest.fixture(scope="module")
def tokenizer(source):
  text = [side for i in range(500) for side in (source[i].source, source[i].target)]
  return train_tokenizer([*text, *tokenizer_text()], vocab_size=800)


@pytest.fixture(scope="module")
def split(source, tokenizer):
  return tokenise(source, tokenizer, buckets=BUCKETS, over_long="truncate")


@pytest.fixture
def options(tokenizer):
  return {
      "tokenizer": tokenizer,
      "batch_size": 16,
      "budgets": BUDGETS,
      "seed": 3,
      "prompt_length": PROMPT_LENGTH,
  }


def take(iterator, number):
  return list(itertools.islice(iterator, number))


def assert_same(batches, others):
  assert len(batches) == len(others)
  for batch, other in zip(batches, others, strict=True):
    for array, other_array in zip(batch, other, strict=True):
      np.testing.assert_array_equal(array, other_array, strict=True)


def text_of(row, tokenizer):
  """The text of a row, after checks of its form: tokens, one EOS, padding."""
  length = int(np.argmax(row == EOS_ID))
  assert row[length] == EOS_ID
  assert not (row[:length] == PAD_ID).any()
  assert (row[length + 1 :] == PAD_ID).all()
  return tokenizer.decode(row)


def test_batches_hold_the_examples_in_words(split, source, tokenizer, options):
  prompts = {
      round(budget, 3): {render(budget, wording).strip() for wording in TRAIN_WORDINGS}
      for budget in BUDGETS
  }
  for batch in take(train_batches(split, **options), 4):
    assert {a.dtype for a in batch[:3]} == {np.dtype(np.int32)}
    assert (batch.budget.dtype, batch.example_id.dtype) == (np.float32, np.int32)
    for b, number in enumerate(batch.example_id):
      example = source[number]
      assert text_of(batch.teacher_source[b], tokenizer) == example.source
      assert text_of(batch.target[b], tokenizer) == example.target
      student = text_of(batch.student_source[b], tokenizer)
      assert student.endswith(example.source)
      prompt = student.removesuffix(example.source).strip()
      assert prompt in prompts[round(float(batch.budget[b]), 3)]


def test_the_seed_decides_everything(split, options):
  batches = take(train_batches(split, **options), 40)
  assert_same(batches, take(train_batches(split, **options, num_prefetch=0), 40))
  others = take(train_batches(split, **{**options, "seed": 4}), 40)
  assert any((a.example_id != b.example_id).any() for a, b in zip(batches, others, strict=True))
  assert any((a.budget != b.budget).any() for a, b in zip(batches, others, strict=True))


def test_an_epoch_holds_every_example_at_most_once_and_nearly_all(split, options):
  plan = TrainingPlan(split, **options)
  assert plan.batches_per_epoch == 500 // 16
  orders = []
  iterator = train_batches(split, **options)
  for _ in range(3):
    ids = np.concatenate([b.example_id for b in take(iterator, plan.batches_per_epoch)])
    assert len(set(ids.tolist())) == len(ids) == 16 * (500 // 16)
    orders.append(ids.tolist())
  assert orders[0] != orders[1] != orders[2]
  assert set(orders[0]) | set(orders[1]) | set(orders[2]) == set(range(500))


def test_a_bucket_smaller_than_a_batch_still_takes_part(source, tokenizer):
  split = tokenise(source, tokenizer, buckets=BUCKETS, over_long="truncate")
  counts = np.bincount(split.bucket, minlength=3)
  assert counts.min() > 0
  batch_size = int(counts.min()) + 1
  plan = TrainingPlan(split, tokenizer, batch_size=batch_size, budgets=(), seed=0, prompt_length=0)
  seen = collections.Counter(
      int(i) for n in range(3 * plan.batches_per_epoch) for i in plan[n].example_id
  )
  rare = split.example_id[split.bucket == np.argmin(counts)]
  assert any(seen[int(i)] for i in rare)


def test_resume_goes_on_with_the_very_next_batch(split, options):
  expected = take(train_batches(split, **options), 70)  # more than two epochs
  for stop in (0, 1, 29, 31, 45):
    iterator = train_batches(split, **options)
    take(iterator, stop)
    state = json.dumps(iterator.get_state())
    assert len(state) < 200
    fresh = train_batches(split, **options)
    fresh.set_state(json.loads(state))
    assert_same(take(fresh, 70 - stop), expected[stop:])


def test_shapes_are_the_buckets(split, options):
  plan = TrainingPlan(split, **options)
  assert plan.shapes == ((40, 16, 18), (48, 24, 26), (64, 40, 44))
  shapes = collections.Counter(
      (b.student_source.shape, b.teacher_source.shape, b.target.shape)
      for b in take(train_batches(split, **options), 62)
  )
  assert set(shapes) <= {tuple((16, width) for width in shape) for shape in plan.shapes}
  assert len(shapes) >= 2


def test_an_example_goes_to_the_first_bucket_that_holds_it(split):
  for row, bucket in enumerate(split.bucket):
    lengths = len(split.source.row(row)), len(split.target.row(row))
    fitting = [n for n, shape in enumerate(BUCKETS) if all(np.array(lengths) <= shape)]
    assert bucket == fitting[0]


def test_budgets_and_templates_are_functions_of_seed_epoch_and_example(split, tokenizer, options):
  def draws(**changed):
    plan = TrainingPlan(split, **{**options, **changed})
    found = {}
    for number in range(2 * plan.batches_per_epoch):
      batch = plan[number]
      for b, i in enumerate(batch.example_id):
        length = np.argmax(batch.student_source[b] == EOS_ID) - np.argmax(
            batch.teacher_source[b] == EOS_ID
        )
        prompt = tuple(batch.student_source[b, :length])
        found[number // plan.batches_per_epoch, int(i)] = (float(batch.budget[b]), prompt)
    return found

  first, other_batches = draws(), draws(batch_size=8)
  shared = set(first) & set(other_batches)
  assert len(shared) > 900
  assert all(first[key] == other_batches[key] for key in shared)
  counts = collections.Counter(budget for budget, _ in first.values())
  assert set(counts) == {float(np.float32(budget)) for budget in BUDGETS}
  assert max(counts.values()) < 1.4 * min(counts.values())
  assert len({prompt for _, prompt in first.values()}) == len(BUDGETS) * len(TRAIN_WORDINGS)
  both = [i for i in range(500) if (0, i) in first and (1, i) in first]
  changed = [first[0, i][0] != first[1, i][0] for i in both]
  assert 0.6 < np.mean(changed) < 0.9  # 3 of 4 by chance: an epoch draws anew


def test_without_budgets_there_is_no_instruction(split, tokenizer, options):
  batch = next(train_batches(split, **{**options, "budgets": ()}))
  width = batch.teacher_source.shape[1]
  np.testing.assert_array_equal(batch.student_source[:, :width], batch.teacher_source)
  assert batch.student_source.shape[1] == width + PROMPT_LENGTH
  assert not batch.student_source[:, width:].any()
  assert not batch.budget.any()


def test_a_task_is_said_to_both_and_the_budget_to_the_student(source, tokenizer):
  task = "translate English to German"
  split = tokenise(source, tokenizer, buckets=BUCKETS, over_long="truncate", task=task)
  options = {"batch_size": 32, "prompt_length": 60, "seed": 0}
  plain = next(train_batches(split, tokenizer, budgets=(), **options))
  batch = next(train_batches(split, tokenizer, budgets=BUDGETS, **options))
  for row, example_id in enumerate(batch.example_id):
    text = source[example_id].source
    assert text_of(batch.teacher_source[row], tokenizer) == f"{task}: {text}"
    student = text_of(batch.student_source[row], tokenizer)
    budget = float(batch.budget[row])
    assert student in {render(round(budget, 3), wording, task) + text for wording in TRAIN_WORDINGS}
    assert text_of(plain.student_source[row], tokenizer).startswith(f"{task}: ")
  evaluated = next(
      eval_batches(
          split, tokenizer, batch_size=4, budget=0.1, wording=TRAIN_WORDINGS[1], prompt_length=60
      )
  )
  assert text_of(evaluated.teacher_source[0], tokenizer) == f"{task}: {source[0].source}"


def test_evaluation_keeps_the_order_and_pads_the_last_batch(split, source, tokenizer):
  wording = HELD_OUT_WORDINGS[0]
  batches = list(
      eval_batches(
          split, tokenizer, batch_size=48, budget=0.07, wording=wording, prompt_length=PROMPT_LENGTH
      )
  )
  assert len(batches) == 11
  ids = np.concatenate([batch.example_id for batch in batches])
  np.testing.assert_array_equal(ids, [*range(500), *[-1] * 28])
  for batch in batches:
    assert len(batch.target) == 48
    widths = tuple(array.shape[1] for array in batch[:3])
    assert widths in ((40, 16, 18), (48, 24, 26), (64, 40, 44))
    np.testing.assert_array_equal(batch.budget, np.full(48, 0.07, np.float32))
  last = batches[-1]
  for array in last[:3]:
    assert not array[-28:].any()
  assert text_of(last.student_source[0], tokenizer) == (render(0.07, wording) + source[480].source)


def test_evaluation_by_length_has_every_example_once(split, tokenizer):
  batches = list(
      eval_batches(
          split,
          tokenizer,
          batch_size=48,
          budget=0.1,
          wording=TRAIN_WORDINGS[0],
          prompt_length=PROMPT_LENGTH,
          by_length=True,
      )
  )
  ids = np.concatenate([batch.example_id for batch in batches])
  np.testing.assert_array_equal(np.sort(ids), [*[-1] * 28, *range(500)])
  lengths = np.concatenate([(batch.teacher_source != 0).sum(axis=1) for batch in batches])
  assert (np.diff(lengths[:500]) >= 0).all()
  for batch in batches:  # each row is the example that it says it is
    row, example = batch.teacher_source[0], int(batch.example_id[0])
    np.testing.assert_array_equal(row[row != 0], split.source.row(example))


def test_tokenising_reports_progress(source, tokenizer):
  seen = []

  def track(numbers):
    for number in numbers:
      yield number
      seen.append(number)

  split = tokenise(source, tokenizer, buckets=BUCKETS, track_fn=track)
  assert seen == [0]  # one chunk holds all 500
  np.testing.assert_array_equal(
      split.source.ids, tokenise(source, tokenizer, buckets=BUCKETS).source.ids
  )


LONG = "Paul kommt aus Kenia und spricht Deutsch. " * 8
ROWS = (("Paul comes.", "Paul kommt."), ("Paul comes. " * 20, "kurz"), ("short", LONG), ("a", "b"))


def test_over_long_text_is_dropped_with_a_count(tokenizer, caplog):
  with caplog.at_level(logging.WARNING):
    split = tokenise(InMemorySource(ROWS), tokenizer, buckets=BUCKETS, over_long="drop")
  assert split.example_id.tolist() == [0, 3]
  assert split.num_over_long == 2
  assert "dropped 2 of 4 examples longer than the last bucket (40, 44)" in caplog.text


def test_over_long_text_is_truncated_to_its_start_and_eos(tokenizer, caplog):
  with caplog.at_level(logging.WARNING):
    split = tokenise(InMemorySource(ROWS), tokenizer, buckets=BUCKETS, over_long="truncate")
  assert split.example_id.tolist() == [0, 1, 2, 3]
  assert "truncated 2 of 4 examples" in caplog.text
  cut = split.target.row(2)
  assert len(cut) == 44 and cut[-1] == EOS_ID
  assert cut[:-1].tolist() == tokenizer.encode(LONG)[:43]
  assert split.bucket.tolist()[1:3] == [2, 2]
  assert tokenizer.decode(split.target.row(1)) == "kurz"


def test_text_that_vanishes_is_dropped_with_a_count(tokenizer, caplog):
  rows = (("Paul", "Paul"), ("\u200b", "leer"))
  with caplog.at_level(logging.WARNING):
    split = tokenise(InMemorySource(rows), tokenizer, buckets=BUCKETS, over_long="truncate")
  assert split.example_id.tolist() == [0]
  assert "dropped 1 of 2 examples with an empty side" in caplog.text


@pytest.mark.parametrize(
    "changed, message",
    (
        ({"over_long": "split"}, r"config\.data\.over_long='split'"),
        ({"buckets": ()}, r"config\.data\.buckets=\(\): give at least one"),
        ({"buckets": ((1, 8),)}, r"at least 2 tokens"),
        ({"buckets": ((24, 24), (16, 40))}, r"config\.data\.buckets: \(16, 40\) after \(24, 24\)"),
        ({"buckets": ((24, 24), (24, 24))}, r"one grows"),
        ({"buckets": ((2, 2),)}, r"none of 500 examples is left: 0 .* 500 do not fit"),
    ),
)
def test_bad_tokenising_arguments(source, tokenizer, changed, message):
  with pytest.raises(ValueError, match=message):
    tokenise(source, tokenizer, **{"buckets": BUCKETS, **changed})


@pytest.mark.parametrize(
    "changed, message",
    (
        ({"batch_size": 501}, r"batch_size=501: must be between 1 and the 500 examples"),
        ({"batch_size": 0}, r"batch_size=0"),
        ({"prompt_length": 5}, r"config\.data\.prompt_length=5: the instruction 'use the teacher"),
        ({"budgets": (0.1, 1.5)}, r"budget=1\.5"),
        ({"wordings": ()}, r"wordings"),
    ),
)
def test_bad_pipeline_arguments(split, options, changed, message):
  with pytest.raises(ValueError, match=message):
    train_batches(split, **{**options, **changed})


def test_bad_evaluation_arguments(split, tokenizer):
  wording = TRAIN_WORDINGS[0]
  with pytest.raises(ValueError, match=r"batch_size=0"):
    eval_batches(split, tokenizer, batch_size=0, budget=0.1, wording=wording, prompt_length=24)
  with pytest.raises(ValueError, match=r"config\.data\.prompt_length=3"):
    eval_batches(split, tokenizer, batch_size=4, budget=0.1, wording=wording, prompt_length=3)
