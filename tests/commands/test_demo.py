"""`kdtw demo` before it serves; the page is in tests/demo, the process that of `kdtw serve`."""

import sys

import pytest

from kdtw_jax.commands import cli


def refused(*flags):
  with pytest.raises(SystemExit) as stopped:
    cli.main(["demo", "--pair=nowhere", *flags])
  assert "\n" not in str(stopped.value)
  return str(stopped.value)


@pytest.mark.parametrize(
    "flags,said",
    [
        (["--host=0.0.0.0"], "--host=0.0.0.0: others could use this server: set KDTW_TOKEN"),
        (["--slots=0"], "--slots=0: must be >= 1"),
        (["--port=99999"], "--port=99999: cannot listen on 127.0.0.1"),
        (["--port=0"], "nowhere: no trained pair"),
    ],
)
def test_a_mistake_ends_in_one_line(monkeypatch, flags, said):
  monkeypatch.delenv("KDTW_TOKEN", raising=False)
  monkeypatch.setattr("kdtw_jax.devices.keep_programs", lambda: None)
  assert refused(*flags).startswith("error: ") and said in refused(*flags)


def test_without_gradio_the_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, "gradio", None)
  monkeypatch.delitem(sys.modules, "kdtw_jax.demo.page", raising=False)
  monkeypatch.delattr("kdtw_jax.demo.page", raising=False)
  assert refused() == "error: gradio is missing: pip install 'kdtw_jax[demo]'"


def test_help_has_examples(capsys):
  with pytest.raises(SystemExit):
    cli.main(["demo", "--help"])
  said = capsys.readouterr().out
  assert "examples:\n  kdtw demo --pair=runs/demo\n" in said and "KDTW_TOKEN" in said
