"""Knowledge distillation with training wheels: students that learn when to ask their teacher.

The public surface, one name per line, stands in `__init__.pyi`; a name is imported when it is first
used, so that the command line answers before JAX is loaded.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.2.0"
