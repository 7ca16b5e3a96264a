"""Policies from outside of the package: registered by their file, refused where they are none."""

import sys
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from prefix_models import FNS, make_params, sources
import pytest

from kdtw_jax import decoding, plugins
from kdtw_jax.decoding.policies import registry
from kdtw_jax.evaluation import methods

NEW_POLICY = '''
"""Asks at the word after a rare one: a policy in a file of its own."""

from typing import ClassVar

import flax.struct
import jax.numpy as jnp

from kdtw_jax import decoding


@decoding.register("late_double", "Late asking, twice as late", delay=8)
@decoding.register("late", "Late asking")
@flax.struct.dataclass
class Late(decoding.Policy):
  """Asks late, where unsure.

      ask iff t >= d and max q < θ

  Attributes:
    threshold: θ.
    delay: static; d.
  """

  threshold: decoding.Dial
  delay: int = decoding.static(4)

  dial_name: ClassVar[str | None] = "threshold"
  dials: ClassVar[tuple[float, ...]] = (0.3, 0.8)
  never: ClassVar[float] = 0.0
  source: ClassVar[str] = "a test"

  def score(self, seen, key):
    unsure = decoding.per_row(self.threshold, seen.logits) - decoding.max_prob(seen.logits)
    return jnp.where(seen.length >= self.delay, unsure, -1.0)
'''


@pytest.fixture
def spare_registry(monkeypatch):
  """What a test registers is forgotten after it."""
  known = dict(registry._BY_NAME)
  yield
  registry._BY_NAME.clear()
  registry._BY_NAME.update(known)


@pytest.fixture
def late(tmp_path, monkeypatch, spare_registry):
  """The new policy's module, importable."""
  (tmp_path / "my_late_policy.py").write_text(NEW_POLICY, encoding="utf-8")
  monkeypatch.syspath_prepend(tmp_path)
  yield "my_late_policy"
  sys.modules.pop("my_late_policy", None)


def decoded(policy):
  B = 3
  args = (make_params(1), make_params(2), sources(B), sources(B), np.zeros((B,), np.float32))
  out = decoding.make_decoder(FNS, FNS, max_length=16)(*args, None, policy)
  return jax.tree.map(np.asarray, out)


def test_one_file_from_outside_is_decoded_swept_and_listed(late):
  assert plugins.load_plugins([late, late]) == (late,) == plugins.load_plugins([late])
  out = decoded(decoding.make_policy("late", 2.0))
  t = np.arange(16)
  np.testing.assert_array_equal(out.asked, (t >= 4) & (t < out.length[:, None]))
  assert not decoded(decoding.make_policy("late_double", 2.0)).asked[:, :8].any()

  assert {"late", "late_double"} < set(methods.METHODS)
  method = methods.METHODS["late"]
  sweep = methods.method_sweep("late", method.dials, "wheels")
  assert (sweep.title, sweep.dial_name, sweep.family) == ("Late asking", "threshold", late)
  assert method.by_token and not sweep.bound and method.never == 0.0
  asks = [decoded(setting.policy()).asks.sum() for _, _, setting in sweep.settings]
  assert asks[0] < asks[1]

  row = "| `late` | Late asking | `ask iff t >= d and max q < θ` | `threshold` | 0 | a test |"
  assert row in decoding.table(drafts=False) and row not in decoding.table(drafts=True)
  double = "| `late_double` | Late asking, twice as late | the same; `delay=8` |"
  assert double in decoding.table(drafts=False)


def test_a_rule_from_outside_serves_those_that_build_on_rules(late):
  plugins.load_plugins([late])
  out = decoded(decoding.make_policy("verify", 0.8, rule="late", tolerance=np.inf, end=False))
  assert out.asks.any() and not out.asked[:, :4].any()


def test_entry_points_of_installed_packages_are_loaded(late, tmp_path):
  info = tmp_path / "late_package-1.0.dist-info"
  info.mkdir()
  (info / "METADATA").write_text("Metadata-Version: 2.1\nName: late-package\nVersion: 1.0\n")
  (info / "entry_points.txt").write_text(f"[kdtw_jax.plugins]\nlate = {late}\n")
  assert plugins.load_plugins() == (late,) and "late" in decoding.POLICIES
  (tmp_path / f"{late}.py").unlink()
  del sys.modules[late]
  with pytest.raises(ValueError, match="fix or uninstall the package 'late-package'"):
    plugins.load_plugins()


def test_a_plugin_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
  with pytest.raises(ValueError, match=r"config.plugins='mine': must be a tuple .*\('mine',\)"):
    plugins.load_plugins("mine")
  with pytest.raises(ValueError, match=r"plugin 'no_such_thing': .*No module.*; put its folder on"):
    plugins.load_plugins(["no_such_thing"])
  (tmp_path / "half_written.py").write_text("1 / 0\n")
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(ValueError, match=r"'half_written': .*\(ZeroDivisionError: division by zero"):
    plugins.load_plugins(["half_written"])


@flax.struct.dataclass
class Whenever(decoding.Policy):
  """Asks always."""

  rate: decoding.Dial = 0.0
  dial_name: ClassVar[str | None] = "rate"

  def score(self, seen, key):
    return jnp.ones_like(seen.budget)


class NoRecord(Whenever):
  """Forgot its decorator."""


@flax.struct.dataclass
class Mute(decoding.Policy):
  """Says nothing about when it asks."""


@pytest.mark.parametrize(
    "name,policy,facts,message",
    [
        ("max_prob", Whenever, {}, r"'max_prob'\): the name is taken by kdtw_jax\..*\.MaxProb"),
        (
            "Max Prob",
            Whenever,
            {},
            r"'Max Prob'\): a name must begin with a letter and have only a-z",
        ),
        ("whenever", Whenever, {"speed": 3}, "speed is no field of Whenever; it has rate"),
        ("whenever", Whenever, {"dial_name": "pace"}, "pace is no field of Whenever; it has rate"),
        ("whenever", Whenever, {"title": ""}, "title='': readers need a name"),
        ("whenever", Whenever, {"dials": (0.1, np.inf)}, "must be finite numbers"),
        ("mute", decoding.StudentAlone, {"dials": (0.1,)}, "name the field that they set"),
        ("mute", Mute, {}, "Mute does not say when it asks; define `score`"),
        ("no_record", NoRecord, {}, "put @flax.struct.dataclass under the registration"),
        ("no_policy", dict, {}, "is no policy; derive it from decoding.Policy"),
    ],
)
def test_what_cannot_be_registered_is_refused(spare_registry, name, policy, facts, message):
  with pytest.raises(ValueError, match=message):
    decoding.register(name, facts.pop("title", "A title"), **facts)(policy)
  assert decoding.POLICIES.get(name) is not policy


def test_the_registry_is_read_only():
  with pytest.raises(TypeError):
    decoding.POLICIES["mine"] = decoding.POLICIES["random"]
