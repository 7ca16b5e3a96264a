"""What the report says about numbers whose story is known."""

import dataclasses

import pytest

from kdtw_jax.evaluation.record import Alone, Token
from kdtw_jax.report import hulls, samples, style, summary


def test_headline(full_metrics):
  assert summary.headline(full_metrics) == (
      "With 20% of its tokens written by the teacher, the handover student reaches 36.0 BLEU: "
      "60% of the way from the student alone (30.0) to the teacher (40.0)."
  )


def test_the_headline_of_the_hulls(full_metrics):
  assert hulls.headline(full_metrics) == (
      "With 10 teacher calls per 100 tokens, handover reaches 33.0 BLEU: 30% of the way "
      "from the student alone (30.0) to the teacher (40.0), and 0.5 above the best mixture of all "
      "other methods (p = 0.012)."
  )
  assert hulls.in_short(full_metrics).startswith("At 10, 20 calls per 100 tokens: 33.0, ")
  found, *_ = full_metrics.hulls
  lost = dataclasses.replace(found.gaps[0], delta=-0.5)
  one = dataclasses.replace(found, gaps=(lost,))
  said = hulls.headline(dataclasses.replace(full_metrics, hulls=(one,)))
  assert ", and 0.5 below the best mixture" in said
  ended = dataclasses.replace(found, gaps=(dataclasses.replace(found.gaps[0], reached=False),))
  unreached = dataclasses.replace(full_metrics, hulls=(ended,))
  assert hulls.headline(unreached) == "" and hulls.at_headline(unreached) == (None, None)
  elsewhere = dataclasses.replace(found, gaps=found.gaps[1:])
  assert hulls.headline(dataclasses.replace(full_metrics, hulls=(elsewhere,))) == ""
  assert hulls.headline(dataclasses.replace(full_metrics, hulls=())) == ""


def test_a_plot_of_many_methods_shows_the_strongest_of_each_family(full_metrics):
  first, other, *rest = full_metrics.curves["test"]
  volumes = {"cascade_0": 0.1, "cascade_1": 0.9, "cascade_2": 0.2}
  volumes |= {f"other{i}": i / 20 for i in range(9)}
  added = [
      dataclasses.replace(other, method=name, family=name.partition("_")[0]) for name in volumes
  ]
  metrics = dataclasses.replace(
      full_metrics, curves={"test": (first, other, *rest, *added)}, hypervolumes=volumes
  )
  shown = [curve.method for curve in summary.plotted(metrics)]
  assert len(shown) == summary.MOST_LINES and "cascade_1" in shown and "cascade_2" not in shown
  assert {"handover", "oracle", "speculative", "other8"} <= set(shown) and "other0" not in shown


def test_the_headline_interpolates(full_metrics):
  first, *rest = full_metrics.curves["test"]
  points = (*first.points[:2], first.points[3])  # from 33 at 10% to 39 at 50%: 34.5 at 20%
  without = dataclasses.replace(first, points=points)
  full_metrics = dataclasses.replace(full_metrics, curves={"test": (without, *rest)})
  assert "With 20% of its tokens" in summary.headline(full_metrics)
  assert "reaches 34.5 BLEU: 45% of the way" in summary.headline(full_metrics)


def test_headline_of_little(full_metrics, bare_metrics):
  assert summary.headline(bare_metrics) == "No quality has been measured yet."
  assert summary.headline(dataclasses.replace(bare_metrics, alone=full_metrics.alone)) == (
      "The student alone reaches 30.0 BLEU and the teacher alone reaches 40.0 BLEU."
  )


def test_equal_share_table(full_metrics):
  rows = {row.curve.method: row for row in summary.equal_share_table(full_metrics)}
  at = {share: column for column, share in enumerate(summary.EQUAL_SHARES)}
  assert rows["handover"].scores[at[0.05]] == pytest.approx(31.5)
  assert rows["max_prob"].scores[at[0.1]] == pytest.approx(32.0)
  assert rows["oracle"].scores[at[0.3]] is None  # its points end at 20%
  assert at[0.2] in rows["handover"].best  # the oracle's 39.5 does not compete
  assert at[0.2] not in rows["max_prob"].best
  assert rows["handover"].area == 0.78 and rows["handover"].volume == 0.5
  assert rows["speculative"].area is None


def test_the_frontier_holds_what_no_point_beats_in_both(full_metrics):
  found = [(row.curve.method, row.calls, row.score) for row in summary.frontier(full_metrics)]
  assert found == [
      ("handover", 0.0, 30.0),
      ("handover", 0.1, 33.0),
      ("handover", 0.2, 36.0),
      ("speculative", 0.4, 40.0),
  ]


def test_prices_and_ways_in_words(full_metrics):
  (found,) = full_metrics.hulls
  cost = dataclasses.replace(found, price="cost", step_ratio=0.02)
  assert hulls.price_words(found, 0.05) == "5 calls per 100 tokens"
  assert hulls.price_words(dataclasses.replace(found, price="share"), 0.15) == "15% by the teacher"
  assert hulls.price_words(cost, 0.07) == "0.07 passes per token (c = 0.02)"
  assert hulls.price_words(dataclasses.replace(cost, step_ratio=0.3577, measured=True), 0.41) == (
      "0.41 passes per token (c = 0.36, measured)"
  )
  assert hulls.way(full_metrics, "bleu", 37.5) == 0.75
  assert hulls.way(full_metrics, "chrf", 52.0) == pytest.approx(0.2)
  worse = {"student": Alone({"bleu": 41.0}, {}), "teacher": Alone({"bleu": 40.0}, {})}
  assert hulls.way(dataclasses.replace(full_metrics, alone=worse), "bleu", 40.0) is None
  assert hulls.settings_words(dataclasses.replace(found.ours, settings={})) == "no methods"
  assert hulls.titles(found) == ("At equal teacher calls", "Calls")
  measured = dataclasses.replace(cost, measured=True)
  assert hulls.titles(measured) == (
      "At equal cost, a student step at 0.02 teacher passes, as measured",
      "Cost, c = 0.02 (measured)",
  )
  assert hulls.titles(measured, several=True) == (
      "At equal cost, a student step as dear as each run measured it",
      "Cost, c as measured",
  )
  table = hulls.table(full_metrics, found)
  assert [row.ours for row in table.rows] == ["50% Student, 50% Handover 20%", "100% Handover 20%"]


def test_a_measured_cost_is_not_one_at_a_ratio_of_one(full_metrics):
  (found,) = full_metrics.hulls
  given = dataclasses.replace(found, price="cost", step_ratio=1.0)
  measured, other = (dataclasses.replace(given, measured=True, step_ratio=c) for c in (1.0, 0.4))
  assert hulls.kind(given) != hulls.kind(measured) == hulls.kind(other)
  groups = hulls.equals([found, given, measured, other], several=True)
  assert [equal.found for equal in groups] == [[found], [given], [measured, other]]


def at_prices(found, *prices):
  """A comparison at other prices; the difference is a hundredfold of the price."""
  gaps = tuple(dataclasses.replace(found.gaps[0], at=at, delta=100 * at) for at in prices)
  return dataclasses.replace(found, gaps=gaps)


def test_gaps_stand_beside_those_of_the_same_price(full_metrics):
  (found,) = full_metrics.hulls
  one, other = at_prices(found, 0.05, 0.1), at_prices(found, 0.1, 0.2)
  rows = [(words, [gap and gap.at for gap in gaps]) for words, gaps in hulls.beside([one, other])]
  assert rows == [
      ("5 calls per 100 tokens", [0.05, None]),
      ("10 calls per 100 tokens", [0.1, 0.1]),
      ("20 calls per 100 tokens", [None, 0.2]),
  ]
  cost = dataclasses.replace(found, price="cost", measured=True)
  one = dataclasses.replace(at_prices(cost, 0.3577 + 0.05, 0.3577 + 0.1), step_ratio=0.3577)
  other = dataclasses.replace(at_prices(cost, 0.41 + 0.1), step_ratio=0.41)
  rows = hulls.beside([None, other, one])
  assert [(words, [gap and round(gap.at, 6) for gap in gaps]) for words, gaps in rows] == [
      ("a student step and 0.05 teacher passes", [None, None, 0.4077]),
      ("a student step and 0.1 teacher passes", [None, 0.51, 0.4577]),
  ]
  given = dataclasses.replace(at_prices(cost, 0.02 + 0.05), step_ratio=0.02, measured=False)
  assert [words for words, _ in hulls.beside([given])] == ["0.07 passes per token (c = 0.02)"]
  assert hulls.beside([None, None]) == []


def test_the_main_comparison_is_at_equal_calls_by_the_runs_own_score(full_metrics):
  (found,) = full_metrics.hulls
  others = [
      dataclasses.replace(found, **fields)
      for fields in ({"price": "share"}, {"score": "chrf"}, {"family": "verify"})
  ]
  metrics = dataclasses.replace(full_metrics, hulls=(*others[:2], found, others[2]))
  assert hulls.main_comparison(metrics) is found
  without = dataclasses.replace(metrics, hulls=())
  assert hulls.main_comparison(without) is None and hulls.in_short(without) == ""


def test_calibration_by_hand(full_metrics):
  assert summary.calibration(full_metrics) == pytest.approx(
      {summary.SEEN: 0.01, summary.UNSEEN: 0.05}
  )
  first, *rest = full_metrics.budgets
  reworded = dataclasses.replace(first, template_seen=False)
  assert summary.calibration(
      dataclasses.replace(full_metrics, budgets=(reworded, *rest))
  ) == pytest.approx({summary.SEEN: 0.0, summary.REWORDED: 0.02, summary.UNSEEN: 0.05})


def test_rouge_runs_show_rouge(bare_metrics):
  alone = {"teacher": Alone({"rougeLsum": 30.0}, {})}
  metrics = dataclasses.replace(bare_metrics, metric="rougeLsum", alone=alone)
  assert summary.headline(metrics) == "The teacher alone reaches 30.0 ROUGE-Lsum."


def test_flatten():
  config = {"a": {"b": 1, "c": {"d": (2,)}}, "e": {}}
  assert summary.flatten(config) == [("a.b", 1), ("a.c.d", (2,)), ("e", {})]


def test_author_runs():
  def runs_of(*pairs):
    return [(run.text, run.author) for run in samples.author_runs([Token(*p) for p in pairs])]

  assert runs_of(
      ("▁Ein", "student"), ("▁Haus", "teacher"), ("boot", "teacher"), (".", "student")
  ) == [("Ein", "student"), (" ", ""), ("Hausboot", "teacher"), (".", "student")]
  assert runs_of(("▁", "teacher"), ("x", "student")) == [("x", "student")]
  assert runs_of() == []


def test_a_family_has_one_colour_and_each_method_its_marker(full_metrics):
  handover, max_prob, oracle, _ = full_metrics.curves["test"]
  named = {
      "handover": handover,
      "handover_hard": handover,
      "max_prob": max_prob,
      "margin": max_prob,
      "oracle": oracle,
      "own": dataclasses.replace(max_prob, family="made_elsewhere"),
      "other": dataclasses.replace(max_prob, family="made_elsewhere_too"),
  }
  curves = [dataclasses.replace(curve, method=name) for name, curve in named.items()]
  looks = style.method_styles(curves)
  assert len({(look.colour, look.marker) for look in looks.values()}) == len(named)
  assert looks["max_prob"].colour == looks["margin"].colour
  assert looks["handover"].colour == looks["handover_hard"].colour == style.ACCENT
  assert max(looks, key=lambda name: looks[name].width) == "handover"
  assert looks["own"].colour != looks["other"].colour
  assert {look.colour for look in looks.values()} <= set(style.DARK)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (style.number(1234.56), "1,234.6"),
        (style.number(None), "–"),
        (style.signed(-0.04, 2), "−0.04"),
        (style.percent(0.205, 1), "20.5%"),
        (style.milliseconds(0.00812), "8.12 ms"),
        (style.milliseconds(0.1234), "123 ms"),
        (style.milliseconds(2.5), "2,500 ms"),
        (style.duration(4.25), "4.2 s"),
        (style.duration(59.7), "1 min 00 s"),
        (style.duration(3725.0), "1 h 02 min"),
    ],
)
def test_formats(text, expected):
  assert text == expected
