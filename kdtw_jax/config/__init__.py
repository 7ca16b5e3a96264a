"""The configuration of a run: defaults, the config file's argument, and validation.

Every config file starts from `defaults()` and overrides fields; the dictionary is locked, so a
misspelt key is refused where it is written. `validate` checks values and says what to do.
"""

from kdtw_jax.config.argument import parse_arg as parse_arg
from kdtw_jax.config.comparing import differences as differences
from kdtw_jax.config.comparing import to_json as to_json
from kdtw_jax.config.defaults import STAGES as STAGES
from kdtw_jax.config.defaults import defaults as defaults
from kdtw_jax.config.defaults import fast_compile_flags as fast_compile_flags
from kdtw_jax.config.defaults import shrink as shrink
from kdtw_jax.config.rules import validate as validate
from kdtw_jax.config.tasks import STUDENT as STUDENT
from kdtw_jax.config.tasks import TEACHER as TEACHER
from kdtw_jax.config.tasks import from_published as from_published
from kdtw_jax.config.tasks import shrink_published as shrink_published
from kdtw_jax.config.tasks import summarization as summarization
from kdtw_jax.config.tasks import summarize as summarize
from kdtw_jax.config.tasks import sweep_every_method as sweep_every_method
