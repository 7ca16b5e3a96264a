"""CNN/DailyMail, highlights of news articles: Flan-T5-XL (2.8 B) teaches Flan-T5-small (77 M).

    tfds build cnn_dailymail --file_format=array_record   # once; needs tensorflow
    python -m kdtw_jax.main --config=configs/cnn_dailymail.py --workdir=runs/cnn_dailymail

Arguments: `teacher=`, `student=` (folders or hub ids of T5 models with the same vocabulary),
`smoke` (the same steps in a minute: launch/smoke.sh cnn_dailymail). Hardware: one 80 GB GPU or four
TPU chips. Time: estimated at two days; not yet run at full size. Metric: ROUGE-1/2/L/Lsum with the
Porter stemmer; for Lsum, highlights are split at line breaks, outputs after `.`, `!` or `?`.
Raffel et al. 2020, table 14, report ROUGE-1/2/L of 41.12/19.56/38.35 (T5-small) and
42.72/21.02/39.94 (T5-3B), fine-tuned and with beam search; decoding here is greedy.
"""

from configs import common


def get_config(arg=None):
  """Returns the config; the module lists the arguments."""
  return common.summarization(
      arg, name="cnn_dailymail", source_field="article", target_field="highlights", num_test=2000
  )
