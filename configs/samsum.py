"""SAMSum, summaries of chat dialogues: Flan-T5-XL (2.8 B) teaches Flan-T5-small (77 M).

    tfds build samsum --file_format=array_record --manual_dir=DIR   # once; needs tensorflow
    python -m kdtw_jax.main --config=configs/samsum.py --workdir=runs/samsum

`tfds build` says which file DIR must hold. Arguments: `teacher=`, `student=` (folders or hub ids of
T5 models with the same vocabulary), `smoke` (the same steps in a minute: launch/smoke.sh samsum).
Hardware: one 80 GB GPU or four TPU chips. Time: estimated at half a day; not yet run at full size.
Metric: ROUGE-1/2/L/Lsum with the Porter stemmer.
"""

from configs import common


def get_config(arg=None):
  """Returns the config; the module lists the arguments."""
  return common.summarization(
      arg,
      name="samsum",
      source_field="dialogue",
      target_field="summary",
      max_source=512,
      max_target=96,
  )
