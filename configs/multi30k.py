"""English-German image captions (Multi30k, github.com/multi30k/dataset): 29,000 pairs, 11-13 words.

    python -m kdtw_jax.main --config=configs/multi30k.py --config.data.path=DIR --workdir=runs/m30k

DIR holds `en.train.txt`, `de.train.txt` and likewise `validation` and `test`. On one CPU core the
teacher takes 36 minutes, the student's stages 21, the evaluation 19; `:gpu` has sizes for one large
GPU.
"""

from kdtw_jax import config as config_lib


def get_config(arg=None):
  """Modes: "" two CPU cores, "gpu" one large GPU, "smoke" under a minute, for tests."""
  mode = config_lib.parse_arg(arg, ("gpu", "smoke"))
  config = config_lib.defaults()
  with config.unlocked():
    config.name = "multi30k"
    config.data.update(source="text", num_train=0, num_validation=0, num_test=0,
                       buckets=((18, 18), (26, 26), (44, 44)), prompt_length=24)
    config.tokenizer.update(kind="unigram", vocab_size=4000)
    config.decode.max_length = 44
    config.teacher.model.update(d_model=192, d_ff=512, num_heads=4, d_kv=48, num_encoder_layers=3,
                                num_decoder_layers=2, dropout_rate=0.15)
    config.teacher.train.update(optimizer="muon", steps=4800, learning_rate=3e-3,
                                warmup_steps=100, ema_decay=0.995, checkpoint_every=400)
    config.student.model.update(d_model=32, d_ff=128, num_heads=4, d_kv=8, num_encoder_layers=2,
                                num_decoder_layers=1, gate_hidden=128)
    for stage in (config.sft, config.warm_start):
      stage.update(optimizer="muon", steps=2000, learning_rate=1e-2, ema_decay=0.995)
    config.distillation.update(steps=300, learning_rate=2e-4, ema_decay=0.98)
    config.wheels.update(steps=800, learning_rate=1e-3, ema_decay=0.98, path_consistency=0.05,
                         forward_kl=1.0, rollout_temperature=0.5)
    config.evaluation.update(batch_size=128, tolerances=(2.0,))
    ask, lenience = (0.1, 0.2, 0.3, 0.45, 0.65), (0.05, 0.15, 0.3, 0.6)
    config.evaluation.dials.update(
        max_prob=ask, entropy=(4.0, 3.0, 2.2, 1.5, 0.8), margin=(0.02, 0.06, 0.15, 0.3, 0.5),
        oracle=(4.0, 2.0, 1.0, 0.3, 0.0), speculative=(2, 3, 4, 6), periodic=(0.1, 0.2, 0.3, 0.5),
        prefix=(1, 2, 4, 7), span_max_prob=(0.05, 0.1, 0.2, 0.3), prompt_lookup=(2,),
        lenient=lenience, lenient_8=lenience, typical=(0.02, 0.1, 0.3, 0.6),
        cascade_chow=(0.3, 0.6, 0.8), cascade_diff=(0.0, 0.2, 0.4), cascade_opt=(0.1, 0.3, 0.6),
        cascade_token_v1=(0.2, 0.5, 0.8), cascade_token_v2=(0.2, 0.4, 0.7),
        cascade_token_v3=(0.4, 0.7, 0.9), big_little=(0.1, 0.2, 0.35, 0.5),
        verify_max_prob=(0.05, 0.1, 0.2, 0.3), verify_max_prob_end=(0.05, 0.1, 0.2, 0.3),
        verify_margin_end=(0.02, 0.06, 0.15), verify_end=(4.0, 2.0, 1.0, 0.4))
    if mode == "gpu":
      _gpu(config)
    if mode == "smoke":
      config.tokenizer.vocab_size = 1000
      config.data.update(num_train=600, num_validation=16, num_test=8, prompt_length=48,
                         buckets=((44, 44),))
      config_lib.shrink(config)
  return config


def _gpu(config):
  """A base-sized teacher and a small student, bfloat16, larger batches."""
  config.tokenizer.vocab_size = 8000
  for model in (config.teacher.model, config.student.model):
    model.dtype = "bfloat16"
  config.teacher.model.update(d_model=512, d_ff=1024, num_heads=8, d_kv=64, num_encoder_layers=6,
                              num_decoder_layers=6, dropout_rate=0.3)
  config.teacher.train.update(steps=6000, batch_size=512, learning_rate=1e-3, warmup_steps=1000)
  config.student.model.update(d_model=128, d_ff=512, num_heads=4, d_kv=32)
  for stage in (config.sft, config.warm_start):
    stage.update(steps=6000, batch_size=512)
  for stage in (config.distillation, config.wheels):
    stage.update(steps=1500, batch_size=512)
