"""XSum, one-sentence summaries of BBC articles: Flan-T5-XL (2.8 B) teaches Flan-T5-small (77 M).

    tfds build xsum --file_format=array_record --manual_dir=DIR   # once; needs tensorflow
    python -m kdtw_jax.main --config=configs/xsum.py --workdir=runs/xsum

`tfds build` says which files DIR must hold. Arguments: `teacher=`, `student=` (folders or hub ids
of T5 models with the same vocabulary), `smoke` (the same steps in a minute: launch/smoke.sh xsum).
Hardware: one 80 GB GPU or four TPU chips. Time: estimated at one or two days; not yet run at full
size. Metric: ROUGE-1/2/L/Lsum with the Porter stemmer.
"""

from configs import common


def get_config(arg=None):
  """Returns the config; the module lists the arguments."""
  return common.summarization(
      arg,
      name="xsum",
      source_field="document",
      target_field="summary",
      max_target=64,
      num_test=2000,
  )
