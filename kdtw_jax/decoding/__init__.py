"""Decoding with a student and a teacher: one batched loop, many policies."""

from kdtw_jax.decoding.gating import (
  CAPS,
  entropy,
  gap,
  gate_greedy,
  gate_sampled,
  margin,
  max_prob,
  within_cap,
)
from kdtw_jax.decoding.loop import decode, make_decoder
from kdtw_jax.decoding.policies import (
  POLICIES,
  Entropy,
  Handover,
  Margin,
  MaxProb,
  Mixture,
  Oracle,
  RandomAsk,
  Speculative,
  StudentAlone,
  TeacherAlone,
  make_policy,
)
from kdtw_jax.decoding.policy import Observation, Policy
from kdtw_jax.decoding.sampling import Sampling, choose_token
from kdtw_jax.decoding.state import DecodeResult, DecodeState

__all__ = [
  "CAPS",
  "POLICIES",
  "DecodeResult",
  "DecodeState",
  "Entropy",
  "Handover",
  "Margin",
  "MaxProb",
  "Mixture",
  "Observation",
  "Oracle",
  "Policy",
  "RandomAsk",
  "Sampling",
  "Speculative",
  "StudentAlone",
  "TeacherAlone",
  "choose_token",
  "decode",
  "entropy",
  "gap",
  "gate_greedy",
  "gate_sampled",
  "make_decoder",
  "make_policy",
  "margin",
  "max_prob",
  "within_cap",
]
