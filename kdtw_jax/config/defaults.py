"""The default of every field, each with its meaning."""

import importlib.metadata
from typing import Any

import ml_collections

STAGES = ("tokenizer", "teacher", "sft", "warm_start", "distillation", "wheels", "evaluation")


def _model(**fields: Any) -> dict[str, Any]:
  """An encoder-decoder; with `pretrained`, its sizes and kinds are the published model's."""
  sizes = dict(
      d_model=64, d_ff=256, num_heads=4, d_kv=16, num_encoder_layers=2, num_decoder_layers=1
  )
  kinds = dict(
      feed_forward="relu",  # relu | gated-gelu
      tie_embeddings=True,
      dropout_rate=0.0,
      dtype="float32",  # of activations and caches: float32 | bfloat16
      param_dtype="float32",  # of parameters that stand still; those in training are float32
  )
  return {**sizes, **kinds, **fields}


def _training(**fields: Any) -> dict[str, Any]:
  """What every stage that trains has."""
  stage = dict(
      steps=1000,
      batch_size=64,
      optimizer="adamw",  # adamw | muon | adafactor
      learning_rate=1e-3,
      warmup_steps=100,
      final_learning_rate=0.0,
      weight_decay=0.0,
      max_grad_norm=1.0,
      ema_decay=0.0,  # 0 keeps no average of the parameters
      log_every=20,
      checkpoint_every=500,
      readout_chunk=0,  # positions whose logits are in memory at a time; 0: all
  )
  return {**stage, **fields}


def _losses(**weights: float) -> dict[str, Any]:
  """Losses of single tokens, by name in `kdtw_jax.losses.TOKEN_LOSSES`: a weight and its options.

  A config file may add any that is registered; a weight of 0 is not computed.
  """
  options = {"generalized_jsd": {"beta": 0.5}}
  names = ("cross_entropy", "forward_kl", "reverse_kl", "generalized_jsd")
  return {name: {"weight": weights.get(name, 0.0), **options.get(name, {})} for name in names}


def _path_consistency(**fields: Any) -> dict[str, Any]:
  """What both stages of path consistency have."""
  stage = dict(
      learning_rate=3e-4,
      value_warmup_steps=60,  # the heads learn alone
      head_learning_rate=5e-3,
      value="head",  # head | logsumexp
      alpha=1.0,
      gamma=1.0,
      segment_length=0,  # 0: to the end of the sequence
      huber=10.0,  # |C| beyond which the loss is linear; 0: quadratic everywhere
      stop_bootstrap=False,
      off_policy="reference",  # reference | teacher
      rollout_temperature=1.0,  # 0: greedy
      path_consistency=1.0,  # weight
      budget_loss=1.0,  # weight of reading the budget in the instruction
      losses=_losses(),
  )
  return _training(**stage, **fields)


def defaults() -> ml_collections.ConfigDict:
  """The default of every field, each with its meaning. Locked and type-safe."""
  config = ml_collections.ConfigDict()
  config.name = "demo"
  config.seed = 0
  config.stages = STAGES  # to run; one that is left out is loaded if the workdir has its result
  config.plugins = ()  # modules that register policies and losses of one's own

  config.data = dict(
      source="phrasebook",  # phrasebook | text | jsonl | tfds
      path="",
      # what holds the two sides: fields, features, or the first part of the names of text files
      source_field="en",
      target_field="de",
      reference_fields=(),
      task="",  # what to do with a source, as it is said to both models, e.g. "summarize"
      tfds_name="",
      tfds_data_dir="",
      train_split="train",
      validation_split="validation",
      test_split="test",
      # 0: all (phrasebook: its size)
      num_train=20000,
      num_validation=400,
      num_test=400,
      seed=0,
      over_long="drop",  # drop | truncate; evaluation always truncates sources
      # (source, target) lengths in tokens, EOS included, the instruction not
      buckets=((16, 16), (24, 24), (40, 40)),
      # tokens reserved for the student's instruction; 0: as many as the longest takes
      prompt_length=20,
  )
  config.tokenizer = dict(
      # an existing SentencePiece model with `<τ>`, or a published tokenizer's folder; "": the
      # published models' own, or where there are none one trained in the workdir
      path="",
      kind="bpe",  # bpe | unigram
      vocab_size=2000,
  )
  config.budgets = dict(
      knots=(0.0, 0.05, 0.1, 0.2, 0.3, 0.5),  # λ(B) is linear between these
      # budgets named in training prompts; held-out ones must not occur here
      train=tuple(b / 100 for b in range(0, 51) if b not in (7, 15, 25, 40)),
      seen=(0.0, 0.05, 0.1, 0.2, 0.3, 0.5),  # evaluated
      held_out=(0.07, 0.15, 0.25, 0.4),  # evaluated, never in a training prompt
  )

  config.teacher = dict(
      model=_model(d_model=128, d_ff=512, d_kv=32, num_decoder_layers=2, dropout_rate=0.1),
      checkpoint="",  # the workdir of a finished run whose teacher is to be used
      pretrained="",  # a published model's folder or hub id; train.steps=0 takes it as it is
      train=_training(label_smoothing=0.1),
  )
  config.student = dict(
      pretrained="",  # a published model's folder or hub id, where sft and warm_start begin
      model=_model(
          value_heads=True,
          value_hidden=64,
          gate="difficulty_price",  # difficulty_price | mlp | token
          gate_hidden=64,
          gate_top_k=5,
          gate_alpha=0.5,
          detach_gate_features=False,
      ),
  )
  # Baseline: the student on references alone, nothing of the teacher.
  config.sft = _training(label_smoothing=0.1)
  # The teacher's distribution, with random budget prompts.
  config.warm_start = _training(losses=_losses(forward_kl=1.0), budget_loss=1.0)
  # Path consistency without the gate.
  config.distillation = _path_consistency(steps=300, on_policy_fraction=0.5)
  # Constrained path consistency: gate, duals, secondary value.
  config.wheels = _path_consistency(
      steps=400,
      on_policy_fraction=0.75,
      gate_credit="expected_gap",  # sampled | expected_kl | expected_gap
      gate_regression="advantage",  # advantage | probability
      max_difficulty=10.0,  # nats
      gate_loss=1.0,
      cost_value_loss=1.0,
      gate_sampled=False,  # on-policy asks are drawn from the gate, or follow it greedily
      explore=0.2,  # share of random asks in the exploring half of the on-policy rows
      dual_learning_rate=0.5,
      max_dual=20.0,
  )
  # Dual ascent on validation sources, the student standing still; 0 steps leave it out.
  config.calibration = dict(steps=100, batch_size=128, dual_learning_rate=8.0)

  config.decode = dict(
      max_length=40,  # output tokens
      chunk=8,  # width of the teacher's catch-up pass; 0: the fastest here when asked for 20%
  )
  config.evaluation = dict(
      metric="bleu",  # bleu | rouge
      batch_size=64,
      num_latency=32,  # sentences timed one by one
      throughput_batch=32,
      # registered policies that are swept, or ("all",); at their own dials where `dials` has none
      methods=("random", "max_prob", "entropy", "margin", "oracle", "speculative"),
      dials=dict(
          random=(0.05, 0.1, 0.2, 0.3, 0.5),
          max_prob=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
          entropy=(4.0, 3.0, 2.5, 2.0, 1.5, 1.0, 0.6),
          margin=(0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6),
          oracle=(4.0, 2.0, 1.0, 0.5, 0.0),
          speculative=(1, 2, 3, 4, 6),
      ),
      offset_shares=(),  # shares to which the gate's offset is brought on validation
      tolerances=(),  # nats that a checking handover forgives; each is a curve over budgets
      # stages whose students the baselines may use; each takes the best on validation
      baseline_students=("distillation", "wheels"),
      compare_at=(0.1, 0.2, 0.3),
      num_resamples=1000,
      num_samples=12,
  )
  config.xla_flags = ""  # added to XLA_FLAGS before JAX starts
  config.mesh = dict(data=-1, model=1)  # devices along batch and parameters; -1: all that remain
  config.checkpoint = dict(keep=2)
  return config.lock()


def fast_compile_flags() -> str:
  """XLA flags for runs that compile much and compute little: a third of the compile time on CPU.

  XLA ends the process at a flag that it does not know, so the second is named only where it exists.
  """
  known = importlib.metadata.version("jaxlib").startswith("0.10.")
  return "--xla_backend_optimization_level=0" + known * " --xla_cpu_use_fusion_emitters=false"
