"""The table of methods: each makes its policy, and the config has dials for each."""

import numpy as np
import pytest

from kdtw_jax import config, decoding
from kdtw_jax.evaluation import methods


def test_every_method_has_dials_of_its_own_or_of_the_config():
  section = config.defaults().evaluation
  assert all(section.dials.get(name, methods.METHODS[name].dials) for name in methods.METHODS)
  assert set(section.methods) <= set(methods.METHODS)


@pytest.mark.parametrize("name", [*methods.METHODS, *methods.HANDOVERS])
def test_the_dial_reaches_the_field_that_is_swept(name):
  method = {**methods.METHODS, **methods.HANDOVERS}[name]
  policy = method.make(3.0)
  assert policy.name == method.policy in decoding.POLICIES
  assert np.asarray(getattr(policy, method.dial_name)) == 3
  for field, value in method.fields:
    assert np.asarray(getattr(policy, field)) == value
  assert method.student in ("", *methods.METHODS)


def test_a_sweep_decodes_measured_and_other_dials():
  sweep = methods.method_sweep("max_prob", (0.1, 0.5), "wheels")
  assert sweep.continuous and [dial for dial, *_ in sweep.settings] == [0.1, 0.5]
  assert sweep.at(0.5) is sweep.settings[1][2]
  assert sweep.at(0.3) == methods.Setting("max_prob", 0.3, "wheels")
  assert not methods.method_sweep("speculative", (2.0, 4.0), "wheels").continuous


def test_handovers_sweep_budgets():
  sweeps = {s.method: s for s in methods.handover_sweeps((0.0, 0.2), (2.0,))}
  assert set(sweeps) == {"handover", "handover_capped", "handover_checked_2"}
  budgets = {name: [s.budget for _, _, s in sweep.settings] for name, sweep in sweeps.items()}
  assert budgets["handover"] == budgets["handover_capped"] == [0.0, 0.2]
  offsets = methods.offset_sweep(0.2, {0.1: -1.5, 0.3: 0.5})
  assert [(dial, label) for dial, label, _ in offsets.settings] == [(-1.5, "10%"), (0.5, "30%")]
  assert all(setting.budget == 0.2 for *_, setting in offsets.settings) and offsets.continuous
  assert {s.cap for _, _, s in sweeps["handover_capped"].settings} == {"hard"}
  checked = sweeps["handover_checked_2"].settings[1][2].policy()
  assert isinstance(checked, decoding.Verify) and checked.tolerance == 2 and checked.dial == 0
