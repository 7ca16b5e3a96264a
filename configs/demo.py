"""The whole method on a generated English-German phrasebook; needs no data and no download.

python -m kdtw_jax.main --config=configs/demo.py --workdir=runs/demo
"""

from configs import common, objectives
from kdtw_jax.config import defaults


def get_config(arg=None):
  """Returns the config of a mode: "", "smoke", "paper", "causal" or "causal_smoke".

  "" takes about fourteen minutes on two CPU cores, installation included, and "smoke" a minute.
  "paper" is the demo with the plain joint softmax over V ∪ {<τ>} and sampled credit, as in arXiv
  2502.17717. "causal" trains two decoder-only models instead of encoder-decoders: the phrase to
  translate is their prompt. `objective=NAME` distils by another method, see objectives.py.
  """
  mode, options = common.parse_arg(arg, ("smoke", "paper", "causal", "causal_smoke"), objective="")
  config = defaults()
  with config.unlocked():
    config.data.update(num_validation=200, num_test=200)
    config.xla_flags = "--xla_backend_optimization_level=1"  # compiles sooner
    config.teacher.model.dropout_rate = 0.0  # phrases rarely repeat
    config.teacher.train.update(
        optimizer="muon", steps=360, learning_rate=6e-3, warmup_steps=40, ema_decay=0.99
    )
    config.student.model.update(
        d_model=32,
        d_ff=64,
        num_heads=4,
        d_kv=8,
        num_encoder_layers=1,
        num_decoder_layers=1,
        gate_hidden=48,
    )
    for stage in (config.sft, config.warm_start):
      stage.update(optimizer="muon", steps=450, learning_rate=1e-2, warmup_steps=40, ema_decay=0.98)
    config.distillation.update(
        steps=80, warmup_steps=10, value_warmup_steps=30, learning_rate=2e-4, ema_decay=0.95
    )
    config.wheels.update(
        steps=260,
        value_warmup_steps=30,
        learning_rate=1e-3,
        ema_decay=0.95,
        path_consistency=0.05,
        max_difficulty=4.0,
    )
    config.wheels.losses.forward_kl.weight = 1.0
    config.calibration.steps = 40
    config.worth.num_sources = 1024
    config.decode.update(pass_rows=8, paces=(1.0,))
    config.evaluation.dials.update(
        random=(0.05, 0.1, 0.2, 0.35, 0.5),
        margin=(0.05, 0.15, 0.25, 0.4, 0.7),
        speculative=(4, 24),
        worth=(10.0, 5.0, 2.5, 1.2, 0.5),
    )
    config.evaluation.update(
        batch_size=32,
        methods=("random", "margin", "speculative", "route_margin", "worth"),
        time_every_method=False,
        compare_at=(0.2,),
        ours=("worth", "handover"),
        baseline_students=("wheels",),
        num_latency=16,
    )
    if mode == "paper":
      config.student.model.update(gate="token", gate_alpha=1.0)
      config.wheels.update(gate_credit="sampled", gate_sampled=True)
      config.calibration.steps = 0
    if mode.startswith("causal"):
      use_causal_models(config)
    if mode.endswith("smoke"):
      config.tokenizer.vocab_size = 500
      config.data.update(
          num_train=600, num_validation=16, num_test=8, buckets=((40, 40),), prompt_length=48
      )
      common.shrink(config)
    else:
      config.stages = tuple(stage for stage in config.stages if stage != "sft")
    usual = "sampled_path_consistency" if mode == "paper" else "path_consistency"
    objectives.use(config, options.objective or usual)
  return config


def use_causal_models(config):
  """Makes both models decoder-only, of about the size of the encoder-decoders, in place."""
  causal = dict(kind="causal", feed_forward="gated-silu")
  config.teacher.model.update(**causal, num_decoder_layers=3, d_ff=192)
  config.student.model.update(**causal, num_decoder_layers=2, num_key_heads=2)
