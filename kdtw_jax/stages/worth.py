"""Stage `worth`: the student learns what help is worth, and V_C how many asks are still to come.

The student of `wheels` and the teacher stay as they are; two heads are fitted to what follows.

    worth        G and C of a draft, on rollouts with help until clean (`decisions.py`);
                 G = max(0, score(final output) − score(draft)), points of 0..100, or of log μ
    cost_value   V_C(s_t) = Σ_{k >= t} c_k, on greedy rollouts of the calibrated gate

A teacher knows its training sources, so drafts are nearer to it there than elsewhere. Half of each
minibatch therefore comes from validation.

Shape letters: B batch, T most tokens, D width, K knots of the dual function, N examples.
"""

from collections.abc import Callable, Iterator
import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np
import optax

from kdtw_jax import checkpoint, decoding, devices, losses, processes
from kdtw_jax.base import PAD_ID, ArrayLike, Batch, Params, Worth
from kdtw_jax.models import Model, num_params, shift_right
from kdtw_jax.stages.decisions import Decisions, in_points, make_collector
from kdtw_jax.stages.prices import call_prices
from kdtw_jax.stages.stage import TRAINING_TEXT, Run
from kdtw_jax.terminal import print_line, tracked

SPLITS = ("train", "validation")
_STEPS_AT_A_TIME = 50


class AsksToCome(NamedTuple):
  """States of the gate's own rollouts and the asks that followed.

  Attributes:
    hidden: the decoder state.
    price: of an ask, nats.
    asks: asks from here to the end, this state's included.
    position: number of tokens before the state.
  """

  hidden: Float[np.ndarray, "N D"]
  price: Float[np.ndarray, " N"]
  asks: Float[np.ndarray, " N"]
  position: Int[np.ndarray, " N"]

  def first(self) -> "AsksToCome":
    """Returns the states before the first token."""
    return AsksToCome(*(part[self.position == 0] for part in self))


def train(run: Run) -> None:
  """Fits the heads `worth` and `cost_value` of the student of `wheels`; skips a finished stage."""
  if run.workdir.summary("worth") is not None:
    return
  print_line("worth", "the student learns what help with a whole draft brings, and what it costs")
  started, models = time.monotonic(), run.inputs.models
  data = {TRAINING_TEXT: run.inputs.text_fingerprint("train")}
  folder = run.workdir.begin("worth", data=data | {s: run.inputs.fingerprint(s) for s in SPLITS})
  section, max_length = run.config.worth, run.config.decode.max_length
  params, teacher_params = run.params("wheels"), run.params("teacher")
  wheels = run.workdir.summary("wheels")
  assert wheels is not None  # `run.params` has found it
  collect = make_collector(
      models,
      tolerance=section.tolerance,
      max_length=max_length,
      readout_chunk=run.config.wheels.readout_chunk,
      log_mu=section.gain == "log_mu",
  )
  found = {
      split: collect(params, teacher_params, batches(run, split, "drafts")) for split in SPLITS
  }
  decisions = tuple(labelled(run, part, split) for split, part in found.items())
  worth, loss = fit_worth(models.student, params, decisions, section, seed=run.seed("worth"))
  follow = asks_to_come(run, params, teacher_params, duals=np.asarray(wheels["duals"]))
  cost_value, cost_loss = fit_cost_value(
      models.student,
      params,
      tuple(follow(batches(run, split, "asks")) for split in SPLITS),
      section,
      seed=run.seed("worth"),
  )
  params = {**params, "worth": worth, "cost_value": cost_value}
  validation = decisions[SPLITS.index("validation")]
  expected = processes.whole(jax.jit(models.student.worth)(params, *validation[:3]))
  checkpoint.save_params(folder / "params", params)
  summary = {
      "stage": "worth",
      "steps": section.steps,
      "loss": loss,
      "cost_value_loss": cost_loss,
      "seconds": time.monotonic() - started,
      "num_params": num_params(params),
      "duals": wheels["duals"],
      "prices": [made.tolist() for made in call_prices(validation, *expected)],
  }
  run.workdir.finish("worth", summary)


def labelled(run: Run, found: Decisions, split: str) -> Decisions:
  """Returns decisions of a split with their G in the unit of the section."""
  if run.config.worth.gain == "log_mu":
    return found
  metric = run.config.evaluation.metric
  return in_points(found, run.inputs.source(split), run.inputs.tokenizer.decode, metric=metric)


def batches(run: Run, split: str, name: str) -> Iterator[Batch]:
  """Iterates over the section's number of a split's sources, in random wordings of budgets.

  Args:
    run: the run.
    split: name of the split.
    name: what is collected from the batches, for the progress.
  """
  section = run.config.worth
  examples = len(run.inputs.tokenised(split).example_id)
  size = min(section.batch_size, examples)
  size -= size % devices.batch_parts(run.mesh)
  found = run.batches(
      "worth", section, split=split, batch_size=size, budgets=run.config.budgets.train
  )
  for _ in tracked(range(-(-section.num_sources // size)), f"worth: {name}, {split}"):
    yield devices.shard_batch(run.mesh, next(found))


def fit_worth(
    student: Model, params: Params, decisions: tuple[Decisions, ...], section: Any, *, seed: int
) -> tuple[Params, float]:
  """Fits the head `worth` to decisions, of which each split gives the same share of a minibatch.

  Args:
    student: the student.
    params: its parameters.
    decisions: one part per split.
    section: `steps`, `batch_size`, `learning_rate`.
    seed: draws the minibatches.

  Returns:
    The head and its last loss.
  """

  def loss_fn(params: Params, *data: Array) -> Float[Array, ""]:
    hidden, hidden_mean, signals, gain, calls = data
    return worth_loss(student.worth(params, hidden, hidden_mean, signals), gain, calls)

  parts = tuple(part[:5] for part in decisions)
  return fit_head(loss_fn, params, "worth", parts, section, seed=seed)


def worth_loss(
    found: Worth, gain: Float[Array, " N"], calls: Float[Array, " N"]
) -> Float[Array, ""]:
  """Computes the squared error of log(1 + G) and log(1 + C), as robust as outputs are uneven."""
  errors = (jnp.log1p(found.gain) - jnp.log1p(gain)) ** 2
  errors += (jnp.log1p(found.calls) - jnp.log1p(calls)) ** 2
  return jnp.mean(errors)


def asks_to_come(
    run: Run, params: Params, teacher_params: Params, *, duals: Float[np.ndarray, " K"]
) -> Callable[[Iterator[Batch]], AsksToCome]:
  """Makes the function that decodes batches as deployed and returns the asks after each state.

  Args:
    run: the run.
    params: the student's parameters.
    teacher_params: the teacher's parameters.
    duals: λ at the knots, the price for a gate that reads none of its own.
  """
  student, teacher = run.inputs.models
  knots, max_length = jnp.asarray(run.config.budgets.knots), run.config.decode.max_length

  @jax.jit
  def follow(params: Params, teacher_params: Params, batch: Batch):
    result = decoding.decode(
        student.decoder_fns,
        teacher.decoder_fns,
        params,
        teacher_params,
        batch.student_source,
        batch.teacher_source,
        batch.budget,
        None,
        decoding.make_policy("handover"),
        max_length=max_length,
    )
    encoded = student.encode(params, batch.student_source)
    given = losses.interpolate_duals(duals, knots, batch.budget)
    price = student.price_or(params, encoded, given)
    hidden = student.hidden(params, encoded, shift_right(result.tokens))
    to_come = jnp.cumsum(result.asked[:, ::-1], axis=1)[:, ::-1].astype(jnp.float32)
    price = jnp.broadcast_to(price[:, None], to_come.shape)
    position = jnp.broadcast_to(jnp.arange(to_come.shape[1]), to_come.shape)
    return hidden.astype(jnp.float32), price, to_come, position, result.tokens != PAD_ID

  def collected(batches: Iterator[Batch]) -> AsksToCome:
    found = []
    for batch in batches:
      *parts, mask = processes.whole(follow(params, teacher_params, batch))
      found.append([part[mask] for part in parts])
    return AsksToCome(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

  return collected


def fit_cost_value(
    student: Model, params: Params, followed: tuple[AsksToCome, ...], section: Any, *, seed: int
) -> tuple[Params, float]:
  """Fits V_C to the asks that followed, by squared error; arguments as in `fit_worth`.

  Every second example is a first state, at which V_C predicts the use of a whole output.
  """

  def loss_fn(params: Params, hidden: Array, price: Array, asks: Array) -> Float[Array, ""]:
    found = student.values(params, hidden[:, None], price)[1][:, 0]
    return jnp.mean((found - asks) ** 2)

  parts = tuple(some[:3] for part in followed for some in (part, part.first()))
  return fit_head(loss_fn, params, "cost_value", parts, section, seed=seed)


def fit_head(
    loss_fn: Callable[..., Float[Array, ""]],
    params: Params,
    name: str,
    parts: tuple[tuple[ArrayLike, ...], ...],
    section: Any,
    *,
    seed: int,
) -> tuple[Params, float]:
  """Minimises a loss over minibatches to which each part of the data gives as many examples.

  Args:
    loss_fn: `(params, *arrays) -> loss`.
    params: the model's parameters, of which the head's are the initial ones.
    name: the head; nothing else is fitted.
    parts: arrays of N examples each; N may differ between parts.
    section: `steps`, `batch_size` (examples of each part) and `learning_rate` (its peak; cosine).
    seed: draws the minibatches.

  Returns:
    The head, and its mean loss over the last steps.
  """
  optimizer = optax.adam(optax.cosine_decay_schedule(section.learning_rate, section.steps))
  host = jax.tree.map(lambda x: np.asarray(x, np.float32), tuple(map(tuple, parts)))

  def step(params, on_device, carry, key):
    head, opt_state = carry
    drawn = []
    for part, part_key in zip(on_device, jax.random.split(key, len(on_device)), strict=True):
      rows = jax.random.randint(part_key, (section.batch_size,), 0, len(part[0]))
      drawn.append([array[rows] for array in part])
    data = [jnp.concatenate(arrays) for arrays in zip(*drawn, strict=True)]
    loss, grads = jax.value_and_grad(lambda head: loss_fn({**params, name: head}, *data))(head)
    updates, opt_state = optimizer.update(grads, opt_state, head)
    return (optax.apply_updates(head, updates), opt_state), loss

  @jax.jit
  def some_steps(params, on_device, carry, keys):
    return jax.lax.scan(functools.partial(step, params, on_device), carry, keys)

  keys = jax.random.split(jax.random.key(seed), section.steps)
  carry, last = (params[name], optimizer.init(params[name])), jnp.zeros(())
  for first in tracked(range(0, section.steps, _STEPS_AT_A_TIME), f"worth: fit {name}"):
    carry, last = some_steps(params, host, carry, keys[first : first + _STEPS_AT_A_TIME])
  return carry[0], float(jnp.mean(last))
