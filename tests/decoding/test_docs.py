"""The page on policies is what the registry says."""

from pathlib import Path

import pytest

from kdtw_jax.decoding import loop, table

PAGE = (Path(loop.__file__).parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("drafts", [False, True])
def test_the_page_has_the_registrys_table(drafts):
  made = table(drafts=drafts)
  assert f"\n\n{made}\n\n" in PAGE, f"write this into kdtw_jax/decoding/README.md:\n{made}"
