"""A run's numbers as the evaluation finds them, small and complete."""

import dataclasses

import pytest

from kdtw_jax.data.prompts import HELD_OUT_WORDINGS, TRAIN_WORDINGS
from kdtw_jax.evaluation import record
from kdtw_jax.evaluation.hull_record import Coin, Gap, Hull, HullComparison, Vertex
from kdtw_jax.evaluation.record import Alone, Curve, Point, Seconds


def point(share, bleu):
  return Point(
      dial=share,
      label=f"{100 * share:.0f}%",
      scores={"bleu": bleu, "chrf": bleu + 20, "length_ratio": 0.97},
      asked_share=share,
      teacher_share=share,
      teacher_calls=share,
      teacher_passes=share,
      teacher_tokens=0.9,
      student_steps=1.0,
      cost=0.1 + share,
      interval=(bleu - 1.5, bleu + 1.2),
      seconds_per_sentence=Seconds(0.01 + share / 10, 0.01, 0.2, 12.0),
  )


def curve(name, title, family, pairs, *, bound=False):
  return Curve(
      method=name,
      title=title,
      family=family,
      bound=bound,
      is_handover=family == "handover",
      dial_name="budget",
      student="wheels",
      points=tuple(point(share, bleu) for share, bleu in pairs),
  )


def vertex(title, label, price, score):
  return Vertex(
      method=title.lower(),
      title=title,
      label=label,
      dial=0.0,
      student="wheels",
      price=price,
      score=score,
  )


def hull_comparison():
  """The handover between student and teacher, at 10 and 20 calls per 100 tokens."""
  ends = vertex("Student", "", 0.0, 30.0), vertex("Speculative", "4", 0.4, 40.0)
  ours = vertex("Handover", "20%", 0.2, 36.0)
  gaps = [
      Gap(
          at=at,
          reached=True,
          ours=Coin(vertex=0, weight=at / 0.2, price=at, scores={"bleu": 30 + 30 * at, "chrf": 53}),
          others=Coin(
              vertex=0, weight=at / 0.4, price=at, scores={"bleu": 30 + 25 * at, "chrf": 54}
          ),
          delta=5 * at,
          interval=(5 * at - 0.3, 5 * at + 0.4),
          p_value=0.012,
      )
      for at in (0.1, 0.2)
  ]
  return HullComparison(
      family="handover",
      price="calls",
      step_ratio=None,
      measured=False,
      score="bleu",
      ours=Hull(settings={"handover": 4}, vertices=(ends[0], ours)),
      others=Hull(settings={"max_prob": 3, "speculative": 1}, vertices=ends),
      gaps=tuple(gaps),
  )


def budget_use(budget, seen, realised):
  wording = TRAIN_WORDINGS[0] if seen else HELD_OUT_WORDINGS[0]
  return record.BudgetUse(
      budget=budget,
      seen=seen,
      template=wording.template(),
      template_seen=seen,
      asked=realised,
      realised=realised,
      violations=0.25,
      dual=1.5,
      predicted=0.1,
  )


def sample_output(budget, author):
  """Who wrote the house is told; the rest is the student's."""
  tokens = (("▁Ein", "student"), ("▁Haus", author), ("boot", author), (".", "student"))
  return record.SampleOutput(
      budget=budget,
      calls=2 * (author == "teacher"),
      tokens=tuple(record.Token(*token) for token in tokens),
  )


@pytest.fixture
def full_metrics():
  """Metrics in which everything was measured."""
  return record.Metrics(
      name="demo",
      metric="bleu",
      seed=17,
      signature="BLEU|nrefs:1",
      test=record.TestSet(200, "5e1f"),
      created="2025-01-02T03:04:05Z",
      command="python -m kdtw_jax.main --config=configs/demo.py --workdir=runs/demo",
      hardware="2 CPU cores",
      config={"data": {"source": "phrasebook", "buckets": [[8, 8]]}, "seed": 17},
      alone={
          "teacher": Alone(
              {"bleu": 40.0, "chrf": 60.0, "length_ratio": 1.0}, {"bleu": (38.7, 41.3)}
          ),
          "student": Alone({"bleu": 30.0, "chrf": 50.0, "length_ratio": 0.9}, {}),
          "sft_student": Alone({"bleu": 28.5, "chrf": 48.0, "length_ratio": 0.9}, {}),
      },
      curves={
          "test": (
              curve(
                  "handover",
                  "Handover",
                  "handover",
                  [(0.0, 30.0), (0.1, 33.0), (0.2, 36.0), (0.5, 39.0)],
              ),
              curve("max_prob", "Max-prob", "thresholds", [(0.0, 30.0), (0.2, 34.0), (0.5, 37.0)]),
              curve("oracle", "Oracle", "oracle", [(0.0, 30.0), (0.2, 39.5)], bound=True),
              curve("speculative", "Speculative", "speculative", [(0.4, 40.0)]),
          ),
          "validation": (curve("max_prob", "Max-prob", "thresholds", [(0.0, 30.0), (0.2, 34.5)]),),
      },
      step_ratio=0.1,
      areas={"handover": 0.78, "max_prob": 0.66, "oracle": 0.9, "speculative": None},
      hypervolumes={"handover": 0.5, "max_prob": 0.4, "oracle": 0.0, "speculative": 0.2},
      budgets=(
          budget_use(0.1, True, 0.12),
          budget_use(0.2, True, 0.2),
          budget_use(0.15, False, 0.1),
      ),
      hulls=(hull_comparison(),),
      throughput_batch=8,
      latency=tuple(
          record.Latency(
              method=name,
              setting=setting,
              quality=quality,
              seconds_per_sentence=Seconds(mean, mean, 2 * mean, 12.0),
              tokens_per_second=tokens_per_second,
          )
          for name, setting, mean, quality, tokens_per_second in (
              ("student", "", 0.0101, 30.0, 4000.0),
              ("handover", "20%", 0.0202, 36.0, 1000.0),
              ("teacher", "", 0.0505, 40.0, 2000.0),
          )
      ),
      samples=(
          record.Sample(
              source="A house boat.",
              reference="Ein Hausboot.",
              student="Ein Boot.",
              teacher="Ein Hausboot.",
              outputs=(sample_output(0.1, "student"), sample_output(0.2, "teacher")),
          ),
      ),
      difficulty=(
          record.WordGroup("territory", "head", 300, 0.1),
          record.WordGroup("territory", "tail", 100, 0.625),
          record.WordGroup("number", "head", 50, 0.9),
      ),
      stages=(
          record.Stage(stage="teacher", steps=1200, seconds=75.0, loss=1.25),
          record.Stage(
              stage="wheels",
              steps=20,
              seconds=5.0,
              loss=2.0,
              log={
                  "step": (10.0, 20.0),
                  "loss": (3.0, 2.0),
                  "asked": (0.3, 0.2),
                  "budget": (0.2, 0.2),
                  "dual_0.2": (1.0, 1.5),
                  "residual": (4.0, 3.0),
              },
          ),
          record.Stage(stage="evaluation", seconds=5.0),
      ),
  )


@pytest.fixture
def bare_metrics(full_metrics):
  """Metrics of a run of which nothing was measured."""
  empty = {
      "alone": {},
      "curves": {"validation": (), "test": ()},
      "areas": {},
      "hypervolumes": {},
      "budgets": (),
      "hulls": (),
      "latency": (),
      "samples": (),
      "difficulty": (),
      "stages": (),
  }
  return dataclasses.replace(full_metrics, **empty)
