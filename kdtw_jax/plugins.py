"""Plugins: modules outside this package that register policies or losses when imported.

A config names such a module, or an installed package names it as an entry point:

    [project.entry-points."kdtw_jax.plugins"]
    sometimes = "my_package.sometimes"
"""

from collections.abc import Sequence
import importlib
import importlib.metadata

GROUP = "kdtw_jax.plugins"


def load_plugins(modules: Sequence[str] = ()) -> tuple[str, ...]:
  """Imports the named modules and those that installed packages offer, each once.

  Args:
    modules: dotted names, as in `import`.

  Returns:
    The names of all loaded modules.

  Raises:
    ValueError: if a name is invalid or cannot be imported; names it, the reason and the remedy.
  """
  if isinstance(modules, str):
    raise ValueError(f"config.plugins={modules!r}: must be a tuple of names, e.g. ({modules!r},)")
  wanted = dict.fromkeys(modules, "put its folder on PYTHONPATH, or take it out of config.plugins")
  for point in importlib.metadata.entry_points(group=GROUP):
    package = point.dist.name if point.dist else "?"
    wanted.setdefault(point.module, f"fix or uninstall the package {package!r} that offers it")
  for module, remedy in wanted.items():
    try:
      importlib.import_module(module)
    except Exception as error:
      reason = f"{type(error).__name__}: {error}".splitlines()[0]
      raise ValueError(f"plugin {module!r}: cannot be imported ({reason}); {remedy}") from error
  return tuple(wanted)
