"""English-German image captions (Multi30k, github.com/multi30k/dataset): 29,000 pairs, 11-13 words.

    python -m kdtw_jax.main --config=configs/multi30k.py --config.data.path=DIR --workdir=runs/m30k

DIR holds `en.train.txt`, `de.train.txt` and the same for `validation` and `test`. On one CPU core
the teacher takes 36 minutes, the student's stages 21 and the evaluation 19. Students are distilled
by GKD, which leaves them better than path consistency does (results/README.md); `:objective=NAME`
takes another objective, see objectives.py. `:gpu` has sizes for one large GPU. `:paragraphs` joins
four captions to one text, with outputs of 68 tokens on average; on one busy CPU core its teacher
takes 42 minutes, the stages up to `wheels` as long, and `worth` 34.
"""

from configs import common, objectives
from kdtw_jax.config import defaults


def get_config(arg=None):
  """Returns a mode's config: "" and "paragraphs" for two CPU cores, "gpu" for a GPU, "smoke"."""
  mode, options = common.parse_arg(arg, ("gpu", "paragraphs", "smoke"), objective="")
  config = defaults()
  with config.unlocked():
    config.name = "multi30k"
    config.data.update(
        source="text",
        num_train=0,
        num_validation=0,
        num_test=0,
        buckets=((18, 18), (26, 26), (44, 44)),
        prompt_length=24,
    )
    config.tokenizer.update(kind="unigram", vocab_size=4000)
    config.decode.update(max_length=44, pass_rows=8)
    config.teacher.model.update(
        d_model=192,
        d_ff=512,
        num_heads=4,
        d_kv=48,
        num_encoder_layers=3,
        num_decoder_layers=2,
        dropout_rate=0.15,
    )
    config.teacher.train.update(
        optimizer="muon",
        steps=4800,
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
      stage.update(optimizer="muon", steps=2000, learning_rate=1e-2, ema_decay=0.995)
    config.distillation.update(steps=300, learning_rate=2e-4, ema_decay=0.98)
    config.wheels.update(
        steps=800,
        learning_rate=1e-3,
        ema_decay=0.98,
        path_consistency=0.05,
        rollout_temperature=0.5,
    )
    config.wheels.losses.forward_kl.weight = 1.0
    config.evaluation.update(batch_size=128, tolerances=(2.0,))
    common.sweep_every_method(config)
    config.evaluation.dials.worth = (1.5, 1.0, 0.7, 0.45, 0.25)
    if mode == "gpu":
      config.tokenizer.vocab_size = 8000
      common.enlarge(config)
    if mode == "paragraphs":
      _paragraphs(config)
    if mode == "smoke":
      config.tokenizer.vocab_size = 1000
      config.data.update(
          num_train=600, num_validation=16, num_test=8, prompt_length=48, buckets=((44, 44),)
      )
      common.shrink(config)
    objectives.use(config, options.objective)
  return config


def _paragraphs(config):
  """Sets up texts of four captions, and batches of a quarter as many."""
  config.data.update(join=4, buckets=((64, 68), (80, 86), (112, 120)))
  config.decode.max_length = 120
  config.teacher.train.update(steps=2300, batch_size=16)
  for stage in (config.sft, config.warm_start):
    stage.update(steps=1000, batch_size=16)
  config.distillation.update(steps=150, batch_size=16, warmup_steps=50)
  config.wheels.update(steps=400, batch_size=16)
  config.worth.num_sources = 384
  config.calibration.batch_size = 32
  config.evaluation.batch_size = 32
  config.evaluation.dials.update(  # of texts that are five times as long
      calls_each=(4.0, 8.0, 12.0, 18.0, 25.0),
      route_gap=(80.0, 100.0, 125.0, 150.0, 190.0),
      route_gap_skip=(80.0, 110.0, 140.0, 190.0, 1000.0),
      route_length=(38.0, 46.0, 55.0, 65.0, 80.0),
      route_margin=(27.0, 34.0, 40.0, 48.0, 60.0),
  )
