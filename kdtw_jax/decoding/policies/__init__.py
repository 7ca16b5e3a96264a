"""Who writes the next token: one file per family of policies, all loaded from this folder."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
  importlib.import_module(f"{__name__}.{_module.name}")
