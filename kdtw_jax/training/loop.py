"""The training loop around a compiled step: data in, logs and checkpoints out, and resuming.

The loop does not wait for the device between log points. Every `log_every` steps it fetches the
losses together and checks them, before anything is saved. A signal ends the loop at the next step,
which is saved with the metrics that no log line has yet, so a resumed stage logs the same means.
Several processes end together, at the next log point after a signal to one of them.
"""

from collections.abc import Callable
import contextlib
import dataclasses
import math
from pathlib import Path
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdtw_jax import checkpoint, preemption, processes
from kdtw_jax.base import PAD_ID, ArrayLike, Batch, BatchIterator
from kdtw_jax.terminal import StageProgress, Unlogged
from kdtw_jax.training.state import TrainState

_REMEDY = (
    "Try a lower learning_rate or max_grad_norm: delete the stage's folder, or use a new workdir"
)


class NonFiniteError(RuntimeError):
  """A NaN or infinite loss, gradient or parameter; the message names the stage and the step."""


@dataclasses.dataclass(frozen=True)
class StageResult:
  """The final state of a stage, and a summary for the report."""

  state: TrainState
  summary: dict


def run_stage(
    name: str,
    *,
    state: TrainState,
    step_fn: Callable,
    batches: BatchIterator,
    prepare: Callable[[TrainState, Batch, jax.Array], Any],
    frozen: Any,
    key: jax.Array,
    steps: int,
    log_every: int,
    checkpoint_every: int,
    directory: Path,
    keep: int,
) -> StageResult:
  """Runs a stage to its last step, starting from its newest checkpoint if there is one.

  Args:
    name: name of the stage, for logs and errors.
    state: state at step 0; a restored state has the same structure.
    step_fn: `(state, frozen, data, key) -> (state, metrics)`, donating its state.
    batches: endless iterator.
    prepare: `(state, batch, key) -> data`; moves a batch to the devices, or rolls out a policy.
    frozen: parameters that the step only reads.
    key: key of the stage; each step folds in its number.
    steps: number of the last step.
    log_every: steps between log points.
    checkpoint_every: steps between checkpoints; the last step is always saved.
    directory: folder of the stage, for `checkpoints/` and logs.
    keep: number of checkpoints to keep.

  Returns:
    The final state and `{"stage", "steps", "seconds", "loss"}`; the loss is None after 0 steps.

  Raises:
    NonFiniteError: if a loss, gradient or parameter is NaN or infinite.
    OSError: if a checkpoint cannot be written.
    SystemExit: if a signal asked the run to end; the last step is saved.
    ValueError: if no checkpoint can be read.
  """
  store = checkpoint.StageCheckpoints(directory / "checkpoints", keep=keep)
  seconds_before, loss = 0.0, math.nan
  unlogged: list[dict[str, float]] = []  # metrics of steps since the last log point
  found = store.restore(state)
  if found is not None:
    state, saved = found
    batches.set_state(saved["iterator"])
    seconds_before, loss = saved["seconds"], saved["loss"]
    unlogged = saved.get("unlogged", [])
  step = first_step = int(state.step)
  started = time.monotonic()
  prepare_key, step_key = jax.random.split(key)
  pending: list[tuple[int, ArrayLike, int, dict]] = []
  with (
      preemption.Deferred() as signals,
      contextlib.closing(store),
      _progress(name, first_step=first_step, steps=steps, folder=directory) as progress,
  ):
    for step in range(first_step + 1, steps + 1):
      batch = next(batches)
      data = prepare(state, batch, jax.random.fold_in(prepare_key, step))
      state, metrics = step_fn(state, frozen, data, step_key)
      pending.append((step, batch.example_id, int(np.sum(batch.target != PAD_ID)), metrics))
      save = step % checkpoint_every == 0 or step == steps
      log = step % log_every == 0 or save
      received = _received(signals, agree=log)
      end = received is not None
      if log or end:
        unlogged = [*unlogged, *_fetch(name, pending)]  # the old list may be on its way to disk
      if log:
        loss = _log(progress, step, unlogged, tokens=sum(tokens for _, _, tokens, _ in pending))
        pending, unlogged = [], []
      if save or end:
        check_finite(name, step, state)
        store.save(
            step,
            state,
            {
                "iterator": batches.get_state(),
                "loss": loss,
                "seconds": seconds_before + time.monotonic() - started,
                "unlogged": unlogged,
            },
        )
      if end:
        break
  received = _received(signals, agree=True)  # perhaps after the last step
  if received is not None:
    preemption.leave(received, stage=name, step=step)
  return StageResult(
      state,
      {
          "stage": name,
          "steps": steps,
          "loss": None if math.isnan(loss) else loss,
          "seconds": seconds_before + time.monotonic() - started,
      },
  )


def _progress(name: str, *, first_step: int, steps: int, folder: Path) -> StageProgress | Unlogged:
  """Opens the logs of a stage, in the first process."""
  if not processes.is_first():
    return Unlogged()
  return StageProgress(name, first_step=first_step, steps=steps, folder=folder)


def _received(signals: preemption.Deferred, *, agree: bool) -> int | None:
  """Returns a signal that asked the run to end; several processes learn of it where they agree."""
  if processes.count() == 1:
    return signals.received
  found = processes.gathered(signals.received) if agree else []
  return next((number for number in found if number is not None), None)


def _fetch(name: str, pending: list[tuple[int, ArrayLike, int, dict]]) -> list[dict[str, float]]:
  """Fetches the metrics of each pending step; raises NonFiniteError for a bad loss."""
  fetched = jax.device_get([metrics for _, _, _, metrics in pending])
  for (step, example_ids, _, _), metrics in zip(pending, fetched, strict=True):
    wrong = [field for field in ("loss", "grad_norm") if not np.isfinite(metrics[field])]
    if wrong:
      raise NonFiniteError(
          f"stage {name}, step {step}: {wrong[0]} is {metrics[wrong[0]]} on examples "
          f"{np.asarray(example_ids).tolist()}; the last checkpoint before it is kept. {_REMEDY}"
      )
  return [{field: float(value) for field, value in metrics.items()} for metrics in fetched]


def _log(
    progress: StageProgress | Unlogged, step: int, rows: list[dict[str, float]], *, tokens: int
) -> float:
  """Logs the means of the metrics of the steps since the last log point; returns the loss."""
  scalars = {field: float(np.mean([row[field] for row in rows])) for field in rows[0]}
  progress.log(step, scalars, tokens=tokens)
  return scalars["loss"]


def check_finite(name: str, step: int, state: TrainState) -> None:
  """Checks that parameters, their averages and duals are finite; waits for the device.

  Args:
    name: name of the stage.
    step: number of the step that made the state.
    state: the state to check.

  Raises:
    NonFiniteError: if a part is not finite; names it.
  """
  parts = {"params": state.params, "ema_params": state.ema_params, "duals": state.duals}
  finite = jax.device_get(_all_finite(parts))
  wrong = [part for part, is_finite in finite.items() if not is_finite]
  if wrong:
    raise NonFiniteError(
        f"stage {name}, step {step}: {wrong[0]} hold values that are not finite and are not "
        f"saved. {_REMEDY}"
    )


@jax.jit
def _all_finite(parts: dict[str, Any]) -> dict[str, jax.Array]:
  """Returns for each part whether all its arrays are finite."""

  def finite(tree: Any) -> jax.Array:
    return jnp.all(jnp.asarray([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)], bool))

  return {name: finite(tree) for name, tree in parts.items()}
