"""A run's numbers as the evaluation writes them, small and complete."""

import pytest


def point(dial, share, bleu, **more):
  counts = {
      "dial": dial,
      "label": f"{100 * share:.0f}%",
      "bleu": bleu,
      "chrf": bleu + 20,
      "length_ratio": 0.97,
      "asked_share": share,
      "teacher_share": share,
      "teacher_calls": share,
      "teacher_passes": share,
      "teacher_tokens": 0.9,
      "student_steps": 1.0,
      "cost": 0.1 + share,
      "seconds_per_sentence": {"mean": 0.01 + share / 10, "p50": 0.01, "p95": 0.2, "tokens": 12.0},
      "tokens_per_second": None,
  }
  return counts | more


def method(name, title, pairs):
  points = [point(share, share, bleu) for share, bleu in pairs]
  return {"method": name, "title": title, "dial_name": "budget", "points": points}


@pytest.fixture
def full_metrics():
  """Metrics with every section of the schema."""
  return {
      "name": "demo",
      "metric": "bleu",
      "signature": "BLEU|nrefs:1",
      "created": "2025-01-02T03:04:05Z",
      "command": "python -m kdtw_jax.main --config=configs/demo.py --workdir=runs/demo",
      "seed": 17,
      "config": {"data": {"source": "phrasebook", "buckets": [[8, 8]]}, "seed": 17},
      "hardware": "2 CPU cores",
      "reference": {
          "teacher": {
              "bleu": 40.0,
              "chrf": 60.0,
              "length_ratio": 1.0,
              "intervals": {"bleu": [38.7, 41.3]},
          },
          "student": {"bleu": 30.0, "chrf": 50.0, "length_ratio": 0.9},
          "sft_student": {"bleu": 28.5, "chrf": 48.0, "length_ratio": 0.9},
      },
      "methods": [
          method("handover", "Handover", [(0.0, 30.0), (0.1, 33.0), (0.2, 36.0), (0.5, 39.0)]),
          method("max_prob", "Max-prob", [(0.0, 30.0), (0.2, 34.0), (0.5, 37.0)]),
          method("oracle", "Oracle", [(0.0, 30.0), (0.2, 39.5)]),
          method("speculative", "Speculative", [(0.4, 40.0)]),
      ],
      "validation_methods": [method("max_prob", "Max-prob", [(0.0, 30.0), (0.2, 34.5)])],
      "budgets": [
          {
              "budget": budget,
              "seen": seen,
              "template": f"at most {budget:.0%}: ",
              "template_seen": seen,
              "asked": realised,
              "realised": realised,
              "violations": 0.25,
              "dual": 1.5,
              "predicted": 0.1,
          }
          for budget, seen, realised in ((0.1, True, 0.12), (0.2, True, 0.2), (0.15, False, 0.1))
      ],
      "comparisons": [
          {
              "baseline": baseline,
              "share": 0.2,
              "handover_share": 0.201,
              "baseline_share": 0.199,
              "handover": 36.0,
              "baseline_score": score,
              "delta": 36.0 - score,
              "interval": [36.0 - score - 0.8, 36.0 - score + 0.8],
              "p_value": 0.0123,
          }
          for baseline, score in (("max_prob", 34.0), ("oracle", 39.5))
      ],
      "areas": {"handover": 0.78, "max_prob": 0.66},
      "latency": [
          {
              "method": name,
              "dial": dial,
              "mean": mean,
              "p50": mean,
              "p95": 2 * mean,
              "tokens_per_second_b32": 1000.0,
              "quality": quality,
          }
          for name, dial, mean, quality in (
              ("student", None, 0.0101, 30.0),
              ("handover", 0.2, 0.0202, 36.0),
              ("teacher", None, 0.0505, 40.0),
          )
      ],
      "difficulty": [
          {"kind": "territory", "frequency": "head", "tokens": 300, "asked": 0.1},
          {"kind": "territory", "frequency": "tail", "tokens": 100, "asked": 0.625},
          {"kind": "number", "frequency": "head", "tokens": 50, "asked": 0.9},
      ],
      "samples": [
          {
              "source": "A house boat.",
              "reference": "Ein Hausboot.",
              "budget": 0.2,
              "student": "Ein Boot.",
              "teacher": "Ein Hausboot.",
              "tokens": [
                  {"text": "▁Ein", "author": "student"},
                  {"text": "▁Haus", "author": "teacher"},
                  {"text": "boot", "author": "teacher"},
                  {"text": ".", "author": "student"},
              ],
          }
      ],
      "stages": [
          {"stage": "teacher", "steps": 1200, "seconds": 75.0, "loss": 1.25},
          {"stage": "evaluation", "steps": None, "seconds": 5.0, "loss": None},
      ],
  }
