"""Decoding with a student and a teacher: one batched loop, many policies."""

from kdtw_jax.decoding.budgets import FORMS, PROMISES, STREAMS, Budget
from kdtw_jax.decoding.chunking import best_chunk, pass_seconds
from kdtw_jax.decoding.continuous import Finished, decode_stream
from kdtw_jax.decoding.gating import margin, max_prob
from kdtw_jax.decoding.loop import decode, make_decoder
from kdtw_jax.decoding.policies.alone import StudentAlone, TeacherAlone
from kdtw_jax.decoding.policies.cascades import Cascade
from kdtw_jax.decoding.policies.drafter import Drafter, Drafts
from kdtw_jax.decoding.policies.fly import Fly
from kdtw_jax.decoding.policies.gate import Handover, Mixture
from kdtw_jax.decoding.policies.lookup import PromptLookup
from kdtw_jax.decoding.policies.mentored import Mentored
from kdtw_jax.decoding.policies.oracle import Oracle
from kdtw_jax.decoding.policies.policy import Dial, Observation, Policy, per_row, static
from kdtw_jax.decoding.policies.registry import POLICIES, Method, make_policy, register, table
from kdtw_jax.decoding.policies.relaxed import Accept, Relaxed
from kdtw_jax.decoding.policies.routing import Route
from kdtw_jax.decoding.policies.schedules import Periodic, Prefix, RandomAsk, Span
from kdtw_jax.decoding.policies.speculative import Lenient, Speculative, Typical
from kdtw_jax.decoding.policies.thresholds import Entropy, Margin, MaxProb
from kdtw_jax.decoding.policies.verify import Verify
from kdtw_jax.decoding.policies.worth import Worth
from kdtw_jax.decoding.rounds import Decision, Rounds, make_rounds
from kdtw_jax.decoding.sampling import Sampling, choose_token
from kdtw_jax.decoding.slots import Request, SlotPrograms, Slots
from kdtw_jax.decoding.state import DecodeResult, DecodeState

__all__ = [
    "FORMS",
    "POLICIES",
    "PROMISES",
    "STREAMS",
    "Accept",
    "Budget",
    "Cascade",
    "Decision",
    "DecodeResult",
    "DecodeState",
    "Dial",
    "Drafter",
    "Drafts",
    "Entropy",
    "Finished",
    "Fly",
    "Handover",
    "Lenient",
    "Margin",
    "MaxProb",
    "Mentored",
    "Method",
    "Mixture",
    "Observation",
    "Oracle",
    "Periodic",
    "Policy",
    "Prefix",
    "PromptLookup",
    "RandomAsk",
    "Relaxed",
    "Request",
    "Rounds",
    "Route",
    "Sampling",
    "SlotPrograms",
    "Slots",
    "Span",
    "Speculative",
    "StudentAlone",
    "TeacherAlone",
    "Typical",
    "Verify",
    "Worth",
    "best_chunk",
    "choose_token",
    "decode",
    "decode_stream",
    "make_decoder",
    "make_policy",
    "make_rounds",
    "margin",
    "max_prob",
    "pass_seconds",
    "per_row",
    "register",
    "static",
    "table",
]
