"""Scalars for Weights & Biases: the only module that imports wandb.

A workdir is one run there, which goes on when the workdir does; `wandb.json` has its id. Each stage
has steps of its own: a value is logged as `STAGE/TAG`, beside `STAGE/step`. What is drawn there is
TensorBoard's too, so nothing is lost if W&B fails.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import hashlib
import json
import logging
from pathlib import Path
import secrets
from typing import Any

from kdtw_jax.files import first_line, read_json_object, write_json

RUN_FILE = "wandb.json"
_logger = logging.getLogger(__name__)


class _Tracker:
  """The open run."""

  def __init__(self, run: Any, path: Path):
    """Takes wandb's run, and the file that names it."""
    self._run, self._path, self._stages = run, path, set()

  def log(self, stage: str, step: int, scalars: Mapping[str, float]) -> None:
    if stage not in self._stages:
      self._run.define_metric(f"{stage}/step", hidden=True)
      self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
      self._stages.add(stage)
    self._run.log({f"{stage}/step": step, **{f"{stage}/{k}": v for k, v in scalars.items()}})

  def is_new(self, runs: Mapping[str, Any]) -> bool:
    """Notes the curves of an evaluation; returns False if they were the last ones already."""
    digest = hashlib.blake2b(json.dumps(runs, sort_keys=True).encode(), digest_size=16).hexdigest()
    known = read_json_object(self._path, remedy="delete it: the next run is another one of W&B")
    write_json(self._path, {**known, "evaluation": digest})
    return known.get("evaluation") != digest


_tracker: _Tracker | None = None  # of this process


@contextlib.contextmanager
def open_run(project: str, folder: Path, config: Mapping[str, Any]) -> Iterator[str]:
  """Opens the run of a workdir while the block runs, or none.

  Args:
    project: PROJECT or ENTITY/PROJECT; "" for no run.
    folder: the workdir.
    config: the run's config, as plain JSON values.

  Yields:
    Where the curves are, in words; "" for no run.

  Raises:
    ValueError: if wandb is not installed, or the run cannot be opened; says what to do.
  """
  global _tracker
  if not project:
    yield ""
    return
  run = _opened(project, folder, config)
  _tracker, code = _Tracker(run, folder / RUN_FILE), 1
  try:
    here = f"{folder / 'wandb'}, until `wandb sync` uploads it: {Path(run.dir).parent}"
    yield here if run.offline else run.url or run.id
    code = 0
  except SystemExit as ended:  # of a signal: the same command goes on
    code = ended.code if isinstance(ended.code, int) else 1
    raise
  finally:
    _tracker = None
    with _kept_from_harm():
      run.finish(exit_code=code)


def log(stage: str, step: int, scalars: Mapping[str, float]) -> None:
  """Logs scalars of a step of a stage, if a run is open; warns if that fails."""
  if _tracker is not None:
    with _kept_from_harm():
      _tracker.log(stage, step, scalars)


def log_curves(stage: str, runs: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]) -> None:
  """Logs whole curves, if a run is open that did not get the same ones the last time.

  Args:
    stage: the name of what made them.
    runs: (step, value) by tag, by name of a curve.
  """
  if _tracker is None:
    return
  with _kept_from_harm():
    if _tracker.is_new(runs):
      for name, curves in runs.items():
        for tag, points in curves.items():
          for step, value in points:
            _tracker.log(f"{stage}/{name}", step, {tag: value})


@contextlib.contextmanager
def _kept_from_harm() -> Iterator[None]:
  """Turns an error of W&B into a warning, and sends no more: the run itself goes on."""
  global _tracker
  try:
    yield
  except Exception as error:
    _tracker = None
    _logger.warning("W&B failed (%s); TensorBoard's files have all scalars", first_line(error))


def _opened(project: str, folder: Path, config: Mapping[str, Any]) -> Any:
  """Opens wandb's run; the same one if the workdir had one in this project."""
  try:
    import wandb  # here: it is an extra, and takes seconds
  except ImportError as error:
    raise ValueError(
        f"config.log.wandb={project!r}: needs wandb, which cannot be imported "
        f"({first_line(error)}): pip install 'kdtw_jax[wandb]', or set it to ''"
    ) from error
  path = folder / RUN_FILE
  known = read_json_object(path, remedy="delete it") if path.is_file() else {}
  if known.get("project") != project:
    known = {"project": project, "id": secrets.token_hex(8)}
  entity, _, name = project.rpartition("/")
  try:
    run = wandb.init(
        entity=entity or None,
        project=name,
        id=known["id"],
        name=folder.name,
        dir=folder,
        config=dict(config),
        resume="allow",
        settings=wandb.Settings(console="off", silent=True),
    )
  except Exception as error:  # wandb's, and those of its process and of the network
    raise ValueError(
        f"config.log.wandb={project!r}: no run could be opened ({type(error).__name__}: "
        f"{first_line(error)}): run `wandb login` once, or set WANDB_MODE=offline and upload with "
        "`wandb sync` later, or set it to ''. No stage has begun"
    ) from error
  write_json(path, known)
  return run
