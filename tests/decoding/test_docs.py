"""The page on policies names each of them."""

from pathlib import Path

from kdtw_jax.decoding import POLICIES, askers, loop

PAGE = (Path(loop.__file__).parent / "README.md").read_text(encoding="utf-8")


def test_every_policy_has_its_entry():
  families = {
      f"{kind}_{rule}": f"{kind}_RULE" for rule in askers.RULES for kind in ("span", "verify")
  }
  for name in POLICIES:
    assert f"`{families.get(name, name)}`" in PAGE, name
