"""Reading and writing published models: folders in transformers' layout, safetensors only.

Example:
  found = published.open_published("google/flan-t5-small")
  config = ModelConfig(**found.architecture, vocab_size=found.config["vocab_size"])
  params = published.load_params(found.folder, config)
"""

from kdtw_jax.published.architecture import FAMILIES as FAMILIES
from kdtw_jax.published.architecture import architecture as architecture
from kdtw_jax.published.architecture import config_json as config_json
from kdtw_jax.published.folder import locate as locate
from kdtw_jax.published.folder import pinned as pinned
from kdtw_jax.published.hub import check_new_id as check_new_id
from kdtw_jax.published.hub import download as download
from kdtw_jax.published.hub import is_id as is_id
from kdtw_jax.published.hub import upload as upload
from kdtw_jax.published.model import Loaded as Loaded
from kdtw_jax.published.model import Published as Published
from kdtw_jax.published.model import load_model as load_model
from kdtw_jax.published.model import load_params as load_params
from kdtw_jax.published.model import open_published as open_published
from kdtw_jax.published.model import save_model as save_model
from kdtw_jax.published.names import export_weights as export_weights
from kdtw_jax.published.names import import_weights as import_weights
