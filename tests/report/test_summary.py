"""What the report says about numbers whose story is known."""

import pytest

from kdtw_jax.report import samples, style, summary


def test_headline_and_lead(full_metrics):
  assert summary.headline(full_metrics) == (
      "With 20% of its tokens written by the teacher, the handover student reaches 36.0 BLEU: "
      "60% of the way from the student alone (30.0) to the teacher (40.0)."
  )
  assert summary.lead(full_metrics) == (
      "That is 2.0 above the strongest method that asks as often: Max-prob "
      "(95% interval +1.2 to +2.8)."
  )


def test_lead_names_the_strongest_at_equal_cost_too(full_metrics):
  row = full_metrics["comparisons"][0]
  dear = {**row, "baseline": "new", "equal": "cost", "delta": -3.0, "interval": [-4.0, -2.0]}
  ours = {**dear, "baseline": "handover_checked_2", "delta": -5.0}
  out_of_reach = {**dear, "baseline": "other", "delta": -9.0, "reached": False}
  full_metrics["comparisons"] += [dear, ours, out_of_reach]
  assert summary.lead(full_metrics).endswith(
      "At equal sequential cost it is 3.0 below the strongest method: new "
      "(95% interval −4.0 to −2.0)."
  )


def test_a_plot_of_many_methods_shows_the_strongest_of_each_family(full_metrics):
  curve = full_metrics["methods"][1]
  names = [f"cascade_{i}" for i in range(6)] + [f"other{i}" for i in range(9)]
  full_metrics["methods"] += [{**curve, "method": name, "title": name} for name in names]
  full_metrics["hypervolumes"] = {name: i / 20 for i, name in enumerate(names)}
  full_metrics["hypervolumes"]["cascade_2"] = 0.9
  shown = [curve.method for curve in summary.plotted(full_metrics)]
  assert len(shown) == summary.MOST_LINES and "cascade_2" in shown and "cascade_5" not in shown
  assert {"handover", "oracle", "speculative", "other8"} <= set(shown) and "other0" not in shown


def test_a_loss_is_called_a_loss(full_metrics):
  full_metrics["comparisons"][0] |= {"delta": -1.5, "interval": [-2.0, 0.25]}
  assert summary.lead(full_metrics) == (
      "That is 1.5 below the strongest method that asks as often: Max-prob "
      "(95% interval −2.0 to +0.2), "
      "a difference that this test set cannot tell from chance."
  )


def test_headline_without_comparisons_interpolates(full_metrics):
  del full_metrics["comparisons"]
  full_metrics["methods"][0]["points"].pop(2)  # from 33 at 10% to 39 at 50%: 34.5 at 20%
  assert "With 20% of its tokens" in summary.headline(full_metrics)
  assert "reaches 34.5 BLEU: 45% of the way" in summary.headline(full_metrics)
  assert summary.lead(full_metrics) == ""


def test_headline_of_little(full_metrics):
  assert summary.headline({}) == "No quality has been measured yet."
  bare = {"reference": full_metrics["reference"]}
  assert summary.headline(bare) == (
      "The student alone reaches 30.0 BLEU and the teacher alone reaches 40.0 BLEU."
  )


def test_equal_share_table(full_metrics):
  rows = {row["method"]: row for row in summary.equal_share_table(full_metrics)}
  shares = list(summary.EQUAL_SHARES)
  at = {share: column for column, share in enumerate(shares)}
  assert rows["handover"]["cells"][at[0.05]]["score"] == pytest.approx(31.5)
  assert rows["max_prob"]["cells"][at[0.1]]["score"] == pytest.approx(32.0)
  assert rows["oracle"]["cells"][at[0.3]]["score"] is None  # its points end at 20%
  assert rows["handover"]["cells"][at[0.2]]["best"]  # the oracle's 39.5 does not compete
  assert not rows["max_prob"]["cells"][at[0.2]]["best"]
  assert rows["handover"]["area"] == 0.78
  assert rows["oracle"]["area"] is not None and rows["speculative"]["area"] is None


def test_calibration_by_hand(full_metrics):
  assert summary.calibration(full_metrics) == pytest.approx({"seen": 0.01, "unseen": 0.05})
  full_metrics["budgets"][0]["template_seen"] = False
  assert summary.calibration(full_metrics) == pytest.approx(
      {"seen": 0.0, "seen, in new words": 0.02, "unseen": 0.05}
  )


def test_rouge_runs_show_rouge():
  metrics = {"metric": "rouge", "reference": {"teacher": {"rougeLsum": 30.0}}}
  assert summary.headline(metrics) == "The teacher alone reaches 30.0 ROUGE-Lsum."


def test_flatten():
  config = {"a": {"b": 1, "c": {"d": (2,)}}, "e": {}}
  assert summary.flatten(config) == [("a.b", 1), ("a.c.d", (2,)), ("e", {})]


def test_author_runs():
  def tokens(*pairs):
    return [{"text": text, "author": author} for text, author in pairs]

  runs = samples.author_runs(
      tokens(("▁Ein", "student"), ("▁Haus", "teacher"), ("boot", "teacher"), (".", "student"))
  )
  assert [(run["text"], run["author"]) for run in runs] == [
      ("Ein", "student"),
      (" ", ""),
      ("Hausboot", "teacher"),
      (".", "student"),
  ]
  text = "".join(run["text"] for run in samples.author_runs(tokens(("▁", "teacher"), ("x", ""))))
  assert text == "x"
  assert samples.author_runs([]) == []


def test_methods_look_different():
  names = ["handover", "random", "max_prob", "exact_speculative", "speculative", "new", "newer"]
  looks = list(style.method_styles(names).values())
  assert len({(look.colour, look.marker) for look in looks}) == len(names)
  assert max(looks, key=lambda look: look.width) is looks[0]
  assert {look.colour for look in looks} <= set(style.DARK)


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
        (style.p_value(0.0002), "< 0.001"),
        (style.p_value(0.0123), "0.012"),
    ],
)
def test_formats(text, expected):
  assert text == expected
