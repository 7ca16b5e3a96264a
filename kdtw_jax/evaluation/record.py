"""metrics.json as one typed record: the results of an evaluation, and all that its report reads.

Only `write_metrics` and `read_metrics` access the file. Not here: measuring (measure.py), and what
the numbers say (report/summary.py). Never imports jax.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from kdtw_jax.evaluation.hull_record import HullComparison
from kdtw_jax.evaluation.typed_json import from_json, to_json
from kdtw_jax.files import read_json_object, write_json

VERSION = 4  # of the file; increases when a field is added, renamed or removed

# The method whose outputs are the teacher's own. Its dial does not change its quality, so it is
# judged and timed by cost alone.
EXACT_METHOD = "speculative"
HEADLINE_CALLS = 0.1  # per output token, at which a run is summed up

_REMEDY = "run the evaluation stage of this workdir again"


@dataclasses.dataclass(frozen=True)
class Seconds:
  """Wall-clock seconds per sentence at batch 1.

  Attributes:
    mean: mean over sentences.
    p50: median.
    p95: 95th percentile.
    tokens: output tokens per sentence.
  """

  mean: float
  p50: float
  p95: float
  tokens: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
  """The measurements of one setting of a method's dial. Shares and counts are per output token.

  Attributes:
    dial: value of the dial.
    label: the setting in words, e.g. "20%".
    scores: quality by name, e.g. `{"bleu": 31.2, "chrf": 55.0, "length_ratio": 0.98}`.
    asked_share: asks.
    teacher_share: tokens that the teacher wrote, 0..1.
    teacher_calls: calls to the teacher.
    teacher_passes: sequential forward passes of the teacher.
    teacher_tokens: tokens that the teacher processed.
    student_steps: forward passes of the student.
    cost: sequential cost in teacher passes, including student steps.
    interval: 95% interval of the run's own score over resamples of the test set; None on
      validation.
    seconds_per_sentence: None if time was not measured.
  """

  dial: float
  label: str
  scores: Mapping[str, float]
  asked_share: float
  teacher_share: float
  teacher_calls: float
  teacher_passes: float
  teacher_tokens: float
  student_steps: float
  cost: float
  interval: tuple[float, float] | None = None
  seconds_per_sentence: Seconds | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
  """One method's points on one split.

  Attributes:
    method: its name in code, e.g. "max_prob".
    title: its display name.
    family: methods of one family look alike in plots.
    bound: True for an upper bound, which sees the teacher's answer before it decides; it is not
      compared with usable methods.
    is_handover: True for the learned gate, however it is used.
    dial_name: the field that is swept, e.g. "threshold".
    student: the stage whose student it uses.
    points: its points, in the order of the sweep.
  """

  method: str
  title: str
  family: str
  bound: bool
  is_handover: bool
  dial_name: str
  student: str
  points: tuple[Point, ...]


@dataclasses.dataclass(frozen=True)
class Alone:
  """The scores of one model without the other.

  Attributes:
    scores: quality by name.
    intervals: for some of the scores, the 95% interval over resamples of the test set.
  """

  scores: Mapping[str, float]
  intervals: Mapping[str, tuple[float, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BudgetUse:
  """The use of one budget, stated in one wording, on test.

  Attributes:
    budget: stated share, 0..1.
    seen: whether training used the budget.
    template: the wording.
    template_seen: whether training used the wording.
    asked: asks per output token.
    realised: share of tokens that the teacher wrote.
    violations: share of sentences in which the teacher wrote more than the budget.
    dual: λ of the budget, nats per ask.
    predicted: share that the cost value V_C predicts.
  """

  budget: float
  seen: bool
  template: str
  template_seen: bool
  asked: float
  realised: float
  violations: float
  dual: float
  predicted: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latency:
  """The speed of one setting.

  Attributes:
    method: its name in code; "student" or "teacher" for one of them alone.
    setting: its dial in words; "" for a model alone.
    quality: its score on test.
    seconds_per_sentence: time of one sentence at a time.
    tokens_per_second: throughput of a batch of `Metrics.throughput_batch` sentences.
  """

  method: str
  setting: str
  quality: float
  seconds_per_sentence: Seconds
  tokens_per_second: float


@dataclasses.dataclass(frozen=True)
class Token:
  """A piece of an output and who wrote it."""

  text: str
  author: Literal["student", "teacher"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleOutput:
  """What the handover wrote under one budget, with so many calls."""

  budget: float
  calls: int
  tokens: tuple[Token, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
  """One test sentence as written by each model alone, and by the handover from budget to budget."""

  source: str
  reference: str
  student: str
  teacher: str
  outputs: tuple[SampleOutput, ...]


@dataclasses.dataclass(frozen=True)
class WordGroup:
  """The teacher's share of one group of words: `asked` is its share of `tokens`, 0..1."""

  kind: str
  frequency: str
  tokens: int
  asked: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
  """The results of one stage of the run; a field is None if the stage has no such result.

  Attributes:
    log: what was logged while it trained, by name, each a value per log point; `step` is one.
  """

  stage: str
  seconds: float
  steps: int | None = None
  loss: float | None = None
  num_params: int | None = None
  duals: tuple[float, ...] | None = None
  log: Mapping[str, tuple[float, ...]] | None = None

  @classmethod
  def from_summary(cls, summary: Mapping[str, Any]) -> "Stage":
    """Takes from a stage's summary.json the part that a report shows."""
    known = {f.name for f in dataclasses.fields(cls)}
    return from_json(
        cls, dict.fromkeys(known) | {k: v for k, v in summary.items() if k in known}, "summary"
    )


@dataclasses.dataclass(frozen=True)
class TestSet:
  """What the scores were taken against, so that only scores of one test set are compared.

  Attributes:
    examples: number of test examples.
    sha256: of their references.
  """

  examples: int
  sha256: str

  @classmethod
  def of(cls, references: Sequence[Sequence[str]]) -> "TestSet":
    """Takes the references of each example."""
    text = json.dumps([[*texts] for texts in references])
    return cls(len(references), hashlib.sha256(text.encode()).hexdigest())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metrics:
  """Everything that a run's report shows.

  Attributes:
    name: the config's name.
    metric: the score that stands for quality, e.g. "bleu".
    seed: the run's seed.
    signature: what a reader needs to repeat the scores.
    test: the test set.
    created: date and time, ISO 8601.
    command: the command that started the run.
    hardware: the hardware of the run.
    config: the run's config as plain JSON values.
    alone: "teacher", "student" and the students of earlier stages, each without the other.
    curves: one curve per method, by split: "validation" and "test".
    step_ratio: cost of a student step in teacher passes.
    areas: by method on test, see `area.area_between`; None if it has none.
    hypervolumes: by method on test, see `area.hypervolume`.
    budgets: stated budgets and measured use.
    hulls: families of methods against the hull of all others.
    throughput_batch: sentences in a batch of `Latency.tokens_per_second`.
    latency: speed of a few settings.
    samples: example outputs.
    difficulty: the teacher's share by group of words.
    stages: the stages of the run, in order.
    version: version of the file.
  """

  name: str
  metric: str
  seed: int
  signature: str
  test: TestSet
  created: str
  command: str
  hardware: str
  config: Mapping[str, Any]
  alone: Mapping[str, Alone]
  curves: Mapping[str, tuple[Curve, ...]]
  step_ratio: float
  areas: Mapping[str, float | None]
  hypervolumes: Mapping[str, float | None]
  budgets: tuple[BudgetUse, ...]
  hulls: tuple[HullComparison, ...]
  throughput_batch: int
  latency: tuple[Latency, ...]
  samples: tuple[Sample, ...]
  difficulty: tuple[WordGroup, ...]
  stages: tuple[Stage, ...] = ()
  version: int = VERSION


def write_metrics(metrics: Metrics, path: Path | str) -> Path:
  """Writes the file, whole or not at all.

  Args:
    metrics: the record.
    path: path of the file.

  Raises:
    ValueError: if a number is not finite or a field has the wrong type; names the field.
  """
  record = to_json(metrics)
  try:
    from_json(Metrics, record)
  except ValueError as error:
    raise ValueError(f"metrics.{error}: it cannot be written to {path}") from error
  return write_json(path, record)


def read_metrics(path: Path | str) -> Metrics:
  """Reads a file written by `write_metrics`.

  Args:
    path: path of the file.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is damaged or has another version; names the file, the field and the remedy.
  """
  record = read_json_object(path, remedy=_REMEDY)
  version = record.get("version")
  if version != VERSION:
    raise ValueError(f"{path}: field version is {version}, this code reads {VERSION}: {_REMEDY}")
  try:
    return from_json(Metrics, record)
  except ValueError as error:
    raise ValueError(f"{path}: damaged, field {error}: {_REMEDY}") from error
