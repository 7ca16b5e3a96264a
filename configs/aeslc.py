"""AESLC, subject lines of e-mails: Flan-T5-XL (2.8 B) teaches Flan-T5-small (77 M).

    tfds build aeslc --file_format=array_record   # once; needs tensorflow
    python -m kdtw_jax.main --config=configs/aeslc.py --workdir=runs/aeslc

tensorflow-datasets has one subject for each e-mail. The original data
(github.com/ryanzhumich/AESLC) has three more by other people in validation and test. They count as
references if the examples are JSON lines with the fields email_body, subject_line, ann0, ann1,
ann2:

    --config.data.source=jsonl --config.data.path=DIR

Arguments: `teacher=`, `student=` (folders or hub ids of T5 models with the same vocabulary);
`smoke` (the same steps in a minute: launch/smoke.sh aeslc); `scratch` (both models from scratch,
2.8 M and 0.2 M parameters, two hours on two CPU cores). Hardware: one 80 GB GPU or four TPU chips.
Time: estimated at half a day; not yet run at full size. Metric: ROUGE-1/2/L/Lsum with the Porter
stemmer, the best over the references; results/README.md has the results of `scratch`.
"""

from configs import common
from kdtw_jax.config import defaults


def get_config(arg=None):
  """Returns the config; the module lists the arguments."""
  config = common.summarization(
      arg,
      name="aeslc",
      source_field="email_body",
      target_field="subject_line",
      task="write the subject line of this e-mail",
      max_source=512,
      max_target=32,
      scratch=_from_scratch,
  )
  config.data.update(reference_fields=("ann0", "ann1", "ann2"))
  return config


def _from_scratch(config):
  """Sets up models of CPU size with their own vocabulary, and an e-mail's first 96 tokens."""
  default = defaults().unlock()
  config.teacher, config.student = default.teacher, default.student
  for stage in ("sft", "warm_start", "distillation", "wheels"):
    config[stage] = default[stage]
  config.data.update(buckets=((48, 24), (96, 24)), prompt_length=28)
  config.decode.update(max_length=24, pass_rows=8)
  config.tokenizer.update(kind="unigram", vocab_size=4000)
  config.teacher.model.update(
      d_model=192,
      d_ff=512,
      num_heads=4,
      d_kv=48,
      num_encoder_layers=3,
      num_decoder_layers=2,
      dropout_rate=0.2,
  )
  config.teacher.train.update(
      optimizer="muon",
      steps=2200,
      learning_rate=3e-3,
      warmup_steps=100,
      ema_decay=0.995,
      checkpoint_every=400,
  )
  config.student.model.update(
      d_model=32,
      d_ff=128,
      num_heads=4,
      d_kv=8,
      num_encoder_layers=2,
      num_decoder_layers=1,
      gate_hidden=128,
  )
  for stage in (config.sft, config.warm_start):
    stage.update(optimizer="muon", steps=1500, learning_rate=1e-2, ema_decay=0.995)
  config.distillation.update(steps=200, learning_rate=2e-4, ema_decay=0.98)
  config.wheels.update(
      steps=600, learning_rate=1e-3, ema_decay=0.98, path_consistency=0.05, rollout_temperature=0.5
  )
  config.wheels.losses.forward_kl.weight = 1.0
  config.evaluation.batch_size = 128
