"""Decoding with a student and a teacher: one batched loop, many policies."""

from kdtw_jax.decoding.askers import (
    Entropy,
    Handover,
    Margin,
    MaxProb,
    Mixture,
    Oracle,
    Periodic,
    Prefix,
    RandomAsk,
    Span,
    StudentAlone,
    TeacherAlone,
)
from kdtw_jax.decoding.chunking import best_chunk, pass_seconds
from kdtw_jax.decoding.continuous import Finished, Request, make_continuous_decoder
from kdtw_jax.decoding.copying import PromptLookup
from kdtw_jax.decoding.drafters import Cascade, Lenient, Speculative, Typical, Verify
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
from kdtw_jax.decoding.policies import POLICIES, make_policy
from kdtw_jax.decoding.policy import Observation, Policy
from kdtw_jax.decoding.sampling import Sampling, choose_token
from kdtw_jax.decoding.state import DecodeResult, DecodeState

__all__ = [
    "CAPS",
    "POLICIES",
    "Cascade",
    "DecodeResult",
    "DecodeState",
    "Entropy",
    "Finished",
    "Handover",
    "Lenient",
    "Margin",
    "MaxProb",
    "Mixture",
    "Observation",
    "Oracle",
    "Periodic",
    "Policy",
    "Prefix",
    "PromptLookup",
    "RandomAsk",
    "Request",
    "Sampling",
    "Span",
    "Speculative",
    "StudentAlone",
    "TeacherAlone",
    "Typical",
    "Verify",
    "best_chunk",
    "choose_token",
    "decode",
    "entropy",
    "gap",
    "gate_greedy",
    "gate_sampled",
    "make_continuous_decoder",
    "make_decoder",
    "make_policy",
    "margin",
    "max_prob",
    "pass_seconds",
    "within_cap",
]
