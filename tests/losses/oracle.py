"""A small decision process solved exactly in float64 numpy: what the losses are tested against.

A state is the tuple of tokens emitted so far. A sequence ends with token EOS or after `length`
tokens; the state after it is terminal and worth 0. Nothing here is shared with the package.

Shape letters: N states, V vocabulary, P paths, T tokens.
"""

import itertools
from typing import NamedTuple

import numpy as np

EOS = 0


class Problem(NamedTuple):
  """States (tuples of tokens), their numbers, the teacher's `[N, V]` probabilities, T."""

  states: list[tuple[int, ...]]
  index: dict[tuple[int, ...], int]
  teacher: np.ndarray
  length: int


class Solution(NamedTuple):
  """Values `[N]`, log π_LM `[N, V]`, log-odds of asking `[N]` (None without `<τ>`)."""

  values: np.ndarray
  log_policy: np.ndarray
  gate_logits: np.ndarray | None


class Paths(NamedTuple):
  """All paths: tokens, state numbers, asked and mask, each `[P, T]`; zeros as padding."""

  tokens: np.ndarray
  states: np.ndarray
  asked: np.ndarray
  mask: np.ndarray


def make_problem(seed: int, vocab_size: int = 3, length: int = 3) -> Problem:
  rng = np.random.default_rng(seed)
  states = [
      prefix
      for size in range(length)
      for prefix in itertools.product(range(1, vocab_size), repeat=size)
  ]
  teacher = rng.dirichlet(np.ones(vocab_size), size=len(states))
  return Problem(states, {state: n for n, state in enumerate(states)}, teacher, length)


def next_values(problem: Problem, values: np.ndarray, state: tuple[int, ...]) -> np.ndarray:
  """`[V]` value of the state after each token."""
  after = [state + (token,) for token in range(problem.teacher.shape[1])]
  return np.array([values[problem.index[s]] if s in problem.index else 0.0 for s in after])


def solve(problem, alpha, gamma, dual=None, gate_alpha=1.0) -> Solution:
  """Soft-Bellman optimum by backward induction, with asking at price `dual` if given."""
  num_states, vocab_size = problem.teacher.shape
  values, gate_logits = np.zeros(num_states), np.zeros(num_states)
  log_policy = np.zeros((num_states, vocab_size))
  for state in reversed(problem.states):
    n = problem.index[state]
    teacher, after = problem.teacher[n], next_values(problem, values, state)
    actions = np.log(teacher) + gamma * after
    token_value = alpha * np.log(np.sum(np.exp(actions / alpha)))
    log_policy[n] = (actions - token_value) / alpha
    values[n] = token_value
    if dual is not None:
      entropy = -np.sum(teacher * np.log(teacher))
      ask = -dual - (1 - alpha) * entropy + gamma * teacher @ after
      gate_logits[n] = (ask - token_value) / gate_alpha
      values[n] = gate_alpha * np.logaddexp(token_value / gate_alpha, ask / gate_alpha)
  return Solution(values, log_policy, None if dual is None else gate_logits)


def evaluate(problem, log_policy, gate_logits, alpha, gamma, dual, gate_alpha) -> np.ndarray:
  """Values `[N]` of a given gated policy, by backward induction."""
  values = np.zeros(len(problem.states))
  for state in reversed(problem.states):
    n = problem.index[state]
    teacher, after = problem.teacher[n], next_values(problem, values, state)
    log_ask, log_token = -np.logaddexp(0, -gate_logits[n]), -np.logaddexp(0, gate_logits[n])
    entropy = -np.sum(teacher * np.log(teacher))
    ask = -dual - (1 - alpha) * entropy + gamma * teacher @ after - gate_alpha * log_ask
    rewards = np.log(teacher) - alpha * log_policy[n] - gate_alpha * log_token
    token = np.exp(log_policy[n]) @ (rewards + gamma * after)
    values[n] = np.exp(log_ask) * ask + np.exp(log_token) * token
  return values


def sequences(problem: Problem) -> list[tuple[int, ...]]:
  """Every sequence, ended by EOS or by the last position."""
  words, length = range(1, problem.teacher.shape[1]), problem.length
  ended = [state + (EOS,) for state in problem.states]
  return ended + list(itertools.product(words, repeat=length))


def all_paths(problem: Problem, asking: bool) -> Paths:
  """Every sequence, with every choice of asked positions if `asking`."""
  rows = []
  for seq in sequences(problem):
    length, rest = len(seq), problem.length - len(seq)
    states = tuple(problem.index[seq[:t]] for t in range(length))
    mask = (True,) * length + (False,) * rest
    for asked in itertools.product([False, True] if asking else [False], repeat=length):
      rows.append((seq + (0,) * rest, states + (0,) * rest, asked + (False,) * rest, mask))
  tokens, states, asked, mask = map(np.array, zip(*rows, strict=True))
  return Paths(tokens.astype(np.int32), states.astype(np.int32), asked, mask)


def path_probs(problem, paths, log_policy, gate_logits=None) -> np.ndarray:
  """`[P]` probability of each path under the gated policy (without gate: it never asks)."""
  log_probs = log_policy[paths.states, paths.tokens]
  if gate_logits is not None:
    gate = gate_logits[paths.states]
    asks = np.log(problem.teacher)[paths.states, paths.tokens] - np.logaddexp(0, -gate)
    log_probs = np.where(paths.asked, asks, log_probs - np.logaddexp(0, gate))
  return np.exp(np.sum(np.where(paths.mask, log_probs, 0.0), axis=1))


def residuals(values, terms, mask, ended, gamma, segment_length):
  """C and its validity by the definition, one segment at a time.

  A row that was cut ends at its last state, worth its value, before the last token.
  """
  errors, valid = np.zeros(mask.shape), np.zeros(mask.shape, bool)
  for b, row in enumerate(mask):
    n = int(row.sum())
    end = n if ended[b] else n - 1
    after = np.append(values[b, :end], 0.0 if ended[b] else values[b, end])
    for i in range(end):
      stop = end if segment_length is None else min(end, i + segment_length)
      path = sum(gamma ** (t - i) * terms[b, t] for t in range(i, stop))
      errors[b, i] = -values[b, i] + gamma ** (stop - i) * after[stop] + path
      valid[b, i] = True
  return errors, valid
