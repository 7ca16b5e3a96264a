"""What is swept: each method makes its policy, and a config names them."""

import dataclasses

import numpy as np
import pytest

from configs import common
from kdtw_jax import config, decoding
from kdtw_jax.decoding.policies import registry
from kdtw_jax.evaluation import methods

HANDOVERS = ("handover", "handover_checked")


def test_a_config_names_methods_that_there_are():
  section = config.defaults().evaluation
  methods.check(section)
  section.methods = ("random", "handover")
  with pytest.raises(
      ValueError, match="config.evaluation.methods: 'handover' is not a method; choose"
  ):
    methods.check(section)


def test_a_config_names_families_that_there_are():
  section = config.defaults().evaluation
  section.ours = ("handover", "cascades")
  methods.check(section)
  section.ours = ("nobody",)
  with pytest.raises(ValueError, match="config.evaluation.ours: 'nobody' is not a family; choose"):
    methods.check(section)


def test_help_that_is_worth_its_calls_is_alone_in_its_family():
  """Or its baselines, routers, would be missing in the hull that it is held against."""
  assert [m.name for m in decoding.POLICIES.values() if m.family == "worth"] == ["worth"]


def test_a_sweep_of_every_method_gives_all_the_same_number_of_settings():
  swept = config.defaults()
  with swept.unlocked():
    common.sweep_every_method(swept)
  methods.check(swept.evaluation)
  numbers = {name: len(methods.dials_of(swept.evaluation, name)) for name in methods.METHODS}
  assert set(numbers.values()) == {5}
  handover, *_ = methods.handover_sweeps(tuple(swept.budgets.seen), ())
  assert len(handover.settings) == 6 and handover.settings[0][2].budget == 0  # the student alone


@pytest.mark.parametrize(
    "name, dials, message",
    [
        ("random", (2.0,), "dials.random=.2.0,.: probability must lie in .0, 1."),
        ("random", (-1.0,), "probability must lie in"),
        ("margin", (7.0,), "threshold must lie in"),
        ("entropy", (-3.0,), "threshold must lie in .0, inf."),
        ("lenient", (9.0,), "lenience must lie in"),
        ("prefix", (-4.0,), "tokens must lie in"),
        ("speculative", (100000,), "k of policy 'speculative' is a whole number from 1 to 512"),
        ("speculative", (2.5,), "k of policy 'speculative' is a whole number"),
        ("verify_end", (-2.0,), "tolerance must lie in"),
        ("verify_max_prob", (1.5,), "dial must lie in .0, 1."),
        ("nobody", (0.1,), "'nobody' is not a method"),
    ],
)
def test_dials_out_of_range_are_refused(name, dials, message):
  section = config.defaults().evaluation
  with section.unlocked():
    section.dials[name] = dials
  with pytest.raises(ValueError, match=message):
    methods.check(section)


def test_a_method_without_dials_of_its_own_takes_those_of_the_config():
  section = config.defaults().evaluation
  with section.unlocked():
    section.methods = ("mixture",)
    with pytest.raises(ValueError, match="give it some in config.evaluation.dials.mixture"):
      methods.check(section)
    section.dials.mixture = (0.1, 0.3)
  methods.check(section)
  assert methods.dials_of(section, "mixture") == (0.1, 0.3)


@pytest.mark.parametrize("name", [*methods.METHODS, *HANDOVERS])
def test_the_dial_reaches_the_field_that_is_swept(name):
  method = decoding.POLICIES[name]
  policy = methods.Setting(name, 3.0, "wheels").policy()
  assert policy.name == name
  assert np.asarray(getattr(policy, method.dial_name)) == 3
  for field, value in method.fields.items():
    assert np.asarray(getattr(policy, field)) == value
  assert method.student in ("", "handover", *methods.METHODS)  # handover: the pair's own student


def test_methods_that_choose_their_student_come_before_those_that_share_it():
  names = list(methods.METHODS)
  assert len(names) == len(methods.METHODS)
  for name, method in methods.METHODS.items():
    if method.student not in ("", "handover"):
      assert names.index(method.student) < names.index(name)


@pytest.mark.parametrize("name", ["handover", "student", "max_probability"])
def test_what_is_not_swept_over_a_dial_is_refused(name):
  with pytest.raises(ValueError, match=f"{name!r} is not a method; choose one of"):
    methods.method_sweep(name, (0.1,), "wheels")
  with pytest.raises(KeyError):
    methods.METHODS[name]


def test_a_policy_of_the_gates_family_is_no_method_even_with_dials(monkeypatch):
  mine = dataclasses.replace(decoding.POLICIES["random"], name="mine", family="handover")
  monkeypatch.setitem(registry._BY_NAME, "mine", mine)
  assert mine.dials and "mine" in decoding.POLICIES
  assert "mine" not in methods.METHODS and "mine" not in list(methods.METHODS)
  section = config.defaults().evaluation
  section.methods = ("all",)
  methods.check(section)
  for name in methods.names_of(section):
    methods.method_sweep(name, methods.dials_of(section, name), "wheels")
  section.methods = ("mine",)
  with pytest.raises(ValueError, match="config.evaluation.methods: 'mine' is not a method"):
    methods.check(section)


def sweep_of(name):
  return methods.method_sweep(name, methods.METHODS[name].dials, "wheels")


def test_a_sweep_says_what_its_method_is():
  sweeps = {name: sweep_of(name) for name in methods.METHODS}
  assert {name for name, sweep in sweeps.items() if sweep.bound} == {"oracle"}
  assert not any(sweep.is_handover for sweep in sweeps.values())
  families = {"cascade_opt": "cascades", "lenient_8": "speculative", "big_little": "verify"}
  for name, family in {**families, "margin": "thresholds", "prefix": "schedules"}.items():
    assert sweeps[name].family == family


def test_handovers_sweep_budgets():
  sweeps = {s.method: s for s in methods.handover_sweeps((0.0, 0.2), (2.0,))}
  assert set(sweeps) == {"handover", "handover_paced", "handover_hard", "handover_checked_2"}
  budgets = {name: [s.budget for _, _, s in sweep.settings] for name, sweep in sweeps.items()}
  assert budgets["handover"] == budgets["handover_hard"] == [0.0, 0.2]
  offsets = methods.offset_sweep(0.2, {0.1: -1.5, 0.3: 0.5})
  assert [(dial, label) for dial, label, _ in offsets.settings] == [(-1.5, "10%"), (0.5, "30%")]
  assert all(setting.budget == 0.2 for *_, setting in offsets.settings)
  assert {s.form for _, _, s in sweeps["handover_hard"].settings} == {"hard"}
  checked = sweeps["handover_checked_2"].settings[1][2].policy()
  assert isinstance(checked, decoding.Verify) and checked.tolerance == 2 and checked.dial == 0
  assert checked.rule == "handover" and checked.end
  for sweep in (*sweeps.values(), offsets):
    assert sweep.is_handover and sweep.family == "handover"
