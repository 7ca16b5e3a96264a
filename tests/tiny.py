"""A tiny pair and batches for tests of what is built from models."""

import dataclasses
import functools

import jax
import numpy as np

from kdtw_jax import config as config_lib
from kdtw_jax.base import EOS_ID, Batch
from kdtw_jax.models import ModelConfig, Models, build

VOCAB = 24
TAU_ID = 3
BUDGETS = (0.0, 0.1, 0.3, 0.5)
KNOTS = (0.0, 0.2, 0.5)


@functools.cache
def models(gate="difficulty_price"):
  """(student, teacher): one layer each, widths 8 and 16."""
  shared = dict(
      vocab_size=VOCAB,
      tau_id=TAU_ID,
      num_encoder_layers=1,
      num_decoder_layers=1,
      num_heads=2,
      dropout_rate=0.0,
  )
  student = build(
      ModelConfig(
          **shared,
          d_model=8,
          d_ff=16,
          d_kv=4,
          gate=gate,
          gate_hidden=8,
          gate_top_k=3,
          gate_alpha=0.5,
          price_knots=KNOTS,
          value_heads=True,
          value_hidden=8,
      )
  )
  return Models(student, build(ModelConfig(**shared, d_model=16, d_ff=32, d_kv=8)))


def with_dropout(model, rate):
  """The same model with another dropout."""
  return build(dataclasses.replace(model.config, dropout_rate=rate))


@functools.cache
def params(gate="difficulty_price"):
  """(student's, teacher's)."""
  student, teacher = models(gate)
  return student.init(jax.random.key(1)), teacher.init(jax.random.key(2))


def batch(rows=8, source=6, target=7, seed=0):
  """Random sequences of random lengths, ended by EOS and padded."""
  rng = np.random.default_rng(seed)

  def sequences(width):
    tokens = rng.integers(4, VOCAB, (rows, width))
    lengths = rng.integers(2, width + 1, rows)
    position = np.arange(width)[None]
    tokens = np.where(position == lengths[:, None] - 1, EOS_ID, tokens)
    return np.where(position < lengths[:, None], tokens, 0).astype(np.int32)

  sources = sequences(source)
  instruction = rng.integers(4, VOCAB, (rows, 3)).astype(np.int32)
  return Batch(
      student_source=np.concatenate([instruction, sources], axis=1),
      teacher_source=sources,
      target=sequences(target),
      budget=rng.choice(np.array(BUDGETS, np.float32), rows),
      example_id=np.arange(rows, dtype=np.int32),
  )


def stage(name="wheels", **overrides):
  """A training section of the default config."""
  section = config_lib.defaults()[name]
  with section.unlocked():
    section.update(
        {
            "steps": 6,
            "batch_size": 8,
            "warmup_steps": 1,
            "log_every": 2,
            "checkpoint_every": 2,
            **overrides,
        }
    )
  return section
