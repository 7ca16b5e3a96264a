r"""Your own data: pairs of a text and of what should be written for it, e.g. its translation.

    python -m kdtw_jax.main --config=configs/own.py --config.data.source=csv \
        --config.data.path=my.csv --config.data.source_field=en --config.data.target_field=de \
        --workdir=runs/own

my.csv has a first row that names its columns. A hash of the source texts gives 5% of the examples
to validation and 5% to test (`config.data.held_out`); a folder with train.csv, validation.csv and
test.csv is used as it is. What is usually set besides:

    --config.data.source=tsv                  or parquet, jsonl, text, datasets
    --config.data.task="write a headline"     what both models are told to do with a source
    --config.evaluation.metric=rouge          for summaries and titles; bleu suits translations
    --config.data.buckets="((64, 24), (128, 24))" --config.data.over_long=truncate
                                              (source, target) lengths in tokens, here those of long
                                              sources and short targets

Both models are trained from scratch, with 2.8 M and 0.2 M parameters, and the size of their
vocabulary is chosen for the text. Hardware: two CPU cores. Time: estimated at an hour for sentences
of a dozen words (from configs/multi30k.py, with fewer steps and baselines); longer texts take
longer. `:gpu` has sizes for one large GPU; `:smoke` takes every step in a few minutes. Students are
distilled by GKD; `:objective=NAME` takes another objective, see objectives.py.
"""

from configs import common, objectives
from kdtw_jax.config import defaults


def get_config(arg=None):
  """Returns a mode's config: "" for two CPU cores, "gpu" for a GPU, "smoke" for a first try."""
  mode, options = common.parse_arg(arg, ("gpu", "smoke"), objective="")
  config = defaults()
  with config.unlocked():
    config.name = "own"
    config.data.update(
        source="csv",
        source_field="source",
        target_field="target",
        held_out=0.05,
        num_train=0,
        num_validation=1000,
        num_test=1000,
        buckets=((16, 16), (32, 32), (64, 64)),
        prompt_length=0,
    )
    config.tokenizer.update(kind="unigram", vocab_size=0)
    config.decode.update(max_length=64, pass_rows=8)
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
        steps=3000,
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
        steps=600,
        learning_rate=1e-3,
        ema_decay=0.98,
        path_consistency=0.05,
        rollout_temperature=0.5,
    )
    config.wheels.losses.forward_kl.weight = 1.0
    config.evaluation.update(
        methods=("random", "max_prob", "margin", "speculative", "route_margin", "worth"),
        ours=("worth", "handover"),
        baseline_students=("wheels",),
        tolerances=(2.0,),
    )
    config.evaluation.dials.worth = (1.5, 1.0, 0.7, 0.45, 0.25)
    if mode == "gpu":
      common.enlarge(config)
    if mode == "smoke":
      config.data.update(num_train=600, num_validation=16, num_test=8, buckets=((64, 64),))
      common.shrink(config)
    objectives.use(config, options.objective)
  return config
