"""The configuration of a run: the default of every field, and the checks on a config.

Every config file starts from `defaults()` and overrides fields. The dictionary is locked, so a
misspelt key fails where it is written. `validate` checks values and says how to fix them.
"""

from kdtw_jax.config.comparing import differences as differences
from kdtw_jax.config.comparing import to_json as to_json
from kdtw_jax.config.defaults import STAGES as STAGES
from kdtw_jax.config.defaults import defaults as defaults
from kdtw_jax.config.defaults import fast_compile_flags as fast_compile_flags
from kdtw_jax.config.rules import validate as validate
