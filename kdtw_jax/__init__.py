"""Knowledge distillation with training wheels: students that learn when to ask their teacher.

`__init__.pyi` lists the public names, one per line. Each is imported when it is first used, so that
the command line responds before JAX is loaded.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.2.0"
