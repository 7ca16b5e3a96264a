"""Encoder-decoders and causal language models for teacher and student, and the student's heads."""

from kdtw_jax.models import low_rank as low_rank
from kdtw_jax.models.cache import Cache as Cache
from kdtw_jax.models.cache import Encoded as Encoded
from kdtw_jax.models.cache import KeyValue as KeyValue
from kdtw_jax.models.config import GATE_KINDS as GATE_KINDS
from kdtw_jax.models.config import ModelConfig as ModelConfig
from kdtw_jax.models.functional import Model as Model
from kdtw_jax.models.functional import Models as Models
from kdtw_jax.models.functional import build as build
from kdtw_jax.models.functional import clear_tau as clear_tau
from kdtw_jax.models.functional import num_params as num_params
from kdtw_jax.models.functional import shift_right as shift_right
from kdtw_jax.models.functional import with_duals as with_duals
from kdtw_jax.models.heads import HEADS as HEADS
from kdtw_jax.models.heads import knows_worth as knows_worth
from kdtw_jax.models.int8 import with_int8 as with_int8
