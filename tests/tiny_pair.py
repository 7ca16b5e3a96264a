"""A pair in its folder as a run saves it, with random parameters."""

import jax
import numpy as np

from kdtw_jax import config as config_lib
from kdtw_jax import config_models, data, pair
from tests.test_config import load

SHORTEST = (1.0, 0.5)  # tokens of an output: a + b · (source tokens)
TEXTS = [
    "The flight from Italy takes 5 hours and 7."[: 2 * n + 3] for n in range(18)
]  # of many lengths
PACES = {"paced": 2.0, "hard": 1.0, "prefix": 1.0, "ledger": 4.0}  # κ by form
DUALS = (5.0, 4.0, 3.0, 2.0, 1.0, 0.5)  # at the six knots


def save(folder, *, mode="smoke", vocab_size=300, task="", seed=0, tokenizer=None):
  """Saves a pair trained for shares up to 0.3, that reads up to 23 tokens; gives the folder.

  The tokenizer is one of `vocab_size`, trained here, unless another is given.
  """
  config = load("demo", mode)
  config.data.update(num_train=200, buckets=((24, 24),), prompt_length=0, task=task)
  config.decode.update(max_length=24, chunk=25)  # one width, so that tests compile less
  config_lib.validate(config)
  tokenizer = tokenizer or _trained_tokenizer(config.data, vocab_size, seed)
  models = config_models.build_models(config, tokenizer)
  student_params, teacher_params = (
      model.init(jax.random.key(seed + i)) for i, model in enumerate(models)
  )
  pair.save_pair(
      folder,
      config=config_lib.to_json(config),
      models=models,
      tokenizer=tokenizer,
      student_params=student_params,
      teacher_params=teacher_params,
      duals=np.array(DUALS, np.float32),
      shortest=SHORTEST,
      paces=PACES,
  )
  return folder


def _trained_tokenizer(settings, vocab_size, seed):
  source = data.load_split(settings, "train")
  text = [side for i in range(len(source)) for side in (source[i].source, source[i].target)]
  return data.train_tokenizer(
      [*text, *data.tokenizer_text(settings.task)], vocab_size=vocab_size, seed=seed
  )
