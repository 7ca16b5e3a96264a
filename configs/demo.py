"""The whole method on a generated English-German phrasebook; needs no data and no download.

python -m kdtw_jax.main --config=configs/demo.py --workdir=runs/demo
"""

from kdtw_jax import config as config_lib


def get_config(arg=None):
  """Modes of the demo.

  "" takes a few minutes on two CPU cores, "smoke" under a minute; "paper" is the demo with the
  plain joint softmax over V ∪ {<τ>} and sampled credit, as arXiv 2502.17717 describes them.
  """
  mode = config_lib.parse_arg(arg, ("smoke", "paper"))
  config = config_lib.defaults()
  with config.unlocked():
    config.teacher.model.dropout_rate = 0.0  # phrases hardly ever repeat
    config.teacher.train.update(steps=900, batch_size=64, learning_rate=2e-3, warmup_steps=100,
                                ema_decay=0.99)
    config.student.model.update(d_model=48, d_ff=96, num_heads=4, d_kv=12, num_encoder_layers=1,
                                num_decoder_layers=1, gate_hidden=48)
    config.sft.update(steps=700, learning_rate=3e-3)
    config.warm_start.update(steps=700, learning_rate=3e-3)
    config.distillation.update(steps=150)
    config.wheels.update(steps=250)
    config.evaluation.update(speculative=(2, 4), offset=())
    if mode == "paper":
      config.student.model.update(gate="token", gate_alpha=1.0)
      config.wheels.update(gate_credit="sampled", gate_sampled=True, calibration_steps=0)
    if mode == "smoke":
      config.tokenizer.vocab_size = 500
      config.data.update(num_train=600, num_validation=16, num_test=8, buckets=((40, 40),),
                         prompt_length=48)
      config_lib.shrink(config)
  return config
