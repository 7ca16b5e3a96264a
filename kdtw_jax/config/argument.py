"""The argument of a config file: what stands after the colon of `--config=FILE:ARGUMENT`."""

from collections.abc import Iterable


def parse_arg(arg: str | None, modes: Iterable[str]) -> str:
  """Reads the part after the colon of `--config=configs/demo.py:smoke`.

  Args:
    arg: the text after the colon, or None or "" where there is none.
    modes: the modes that this config file offers besides the default "".

  Returns:
    The mode, "" for the default.

  Raises:
    ValueError: for a mode that the file does not offer.
  """
  mode = arg or ""
  known = ("", *modes)
  if mode not in known:
    raise ValueError(f"config argument {mode!r} is unknown; this file offers "
                     f"{', '.join(known[1:])}")
  return mode
