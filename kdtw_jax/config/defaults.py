"""The default of every field, each with its meaning, and the smallest sizes for tests."""

import importlib.metadata

import ml_collections

STAGES = ("tokenizer", "teacher", "sft", "warm_start", "distillation", "wheels", "evaluation")


def _model(**overrides) -> ml_collections.ConfigDict:
  model = ml_collections.ConfigDict(
      {
          "d_model": 64,
          "d_ff": 256,
          "num_heads": 4,
          "d_kv": 16,
          "num_encoder_layers": 2,
          "num_decoder_layers": 1,
          "feed_forward": "relu",
          "tie_embeddings": True,
          # with `pretrained`, the fields above are the published model's
          "dropout_rate": 0.0,
          "dtype": "float32",
          "param_dtype": "float32",  # of parameters that stand still; those in training are float32
      }
  )
  model.update(overrides)
  return model


def _training(**overrides) -> ml_collections.ConfigDict:
  """What every training stage has."""
  stage = ml_collections.ConfigDict(
      {
          "steps": 1000,
          "batch_size": 64,
          "optimizer": "adamw",  # adamw | muon | adafactor
          "learning_rate": 1e-3,
          "warmup_steps": 100,
          "final_learning_rate": 0.0,
          "weight_decay": 0.0,
          "max_grad_norm": 1.0,
          "ema_decay": 0.0,
          "log_every": 20,
          "checkpoint_every": 500,
          "readout_chunk": 0,
      }
  )
  stage.update(overrides)
  return stage


def defaults() -> ml_collections.ConfigDict:
  """The default of every field, each with its meaning. Locked and type-safe."""
  config = ml_collections.ConfigDict()
  config.name = "demo"
  config.seed = 0
  config.stages = STAGES  # stages to run; one left out is loaded if the workdir has its result

  config.data = ml_collections.ConfigDict(
      {
          "source": "phrasebook",  # phrasebook | text | jsonl | tfds
          "path": "",
          # what holds the two sides: fields, features, or the first part of the names of text files
          "source_field": "en",
          "target_field": "de",
          "reference_fields": (),
          "task": "",  # what to do with a source, as it is said to both models, e.g. "summarize"
          "tfds_name": "",
          "tfds_data_dir": "",
          "train_split": "train",
          "validation_split": "validation",
          "test_split": "test",
          "num_train": 20000,
          "num_validation": 400,
          "num_test": 400,  # 0: all (phrasebook: its size)
          "seed": 0,
          "over_long": "drop",  # drop | truncate; evaluation always truncates sources
          # (source, target) lengths in tokens, EOS included, the instruction not
          "buckets": ((16, 16), (24, 24), (40, 40)),
          # tokens reserved for the student's instruction; 0: as many as the longest takes
          "prompt_length": 20,
      }
  )
  config.tokenizer = ml_collections.ConfigDict(
      {
          # an existing SentencePiece model with `<τ>`, or a published tokenizer's folder; "": the
          # published models' own, or where there are none one trained in the workdir
          "path": "",
          "kind": "bpe",
          "vocab_size": 2000,
      }
  )
  config.budgets = ml_collections.ConfigDict(
      {
          "knots": (0.0, 0.05, 0.1, 0.2, 0.3, 0.5),  # λ(B) is linear between these
          # budgets named in training prompts; held-out ones must not occur here
          "train": tuple(b / 100 for b in range(0, 51) if b not in (7, 15, 25, 40)),
          "seen": (0.0, 0.05, 0.1, 0.2, 0.3, 0.5),  # evaluated
          "held_out": (0.07, 0.15, 0.25, 0.4),  # evaluated, never in a training prompt
      }
  )

  config.teacher = ml_collections.ConfigDict(
      {
          "model": _model(
              d_model=128,
              d_ff=512,
              num_heads=4,
              d_kv=32,
              num_encoder_layers=2,
              num_decoder_layers=2,
              dropout_rate=0.1,
          ),
          "checkpoint": "",  # the workdir of a finished run whose teacher is to be used
          "pretrained": "",  # a published model's folder or hub id; train.steps=0 takes it as it is
          "train": _training(label_smoothing=0.1),
      }
  )
  config.student = ml_collections.ConfigDict(
      {
          "pretrained": "",  # a published model's folder or hub id, where sft and warm_start begin
          "model": _model(
              value_heads=True,
              value_hidden=64,
              gate="difficulty_price",
              gate_hidden=64,
              gate_top_k=5,
              gate_alpha=0.5,
              detach_gate_features=False,
          ),
      }
  )
  # Baseline: the student on references alone, nothing of the teacher.
  config.sft = _training(label_smoothing=0.1)
  # Teacher-distribution training with random budget prompts; loss weights by name.
  config.warm_start = _training(
      cross_entropy=0.0,
      forward_kl=1.0,
      reverse_kl=0.0,
      generalized_jsd=0.0,
      jsd_beta=0.5,
      budget_loss=1.0,
  )  # of reading the budget in the instruction
  # Path consistency without the gate.
  config.distillation = _training(
      steps=300,
      learning_rate=3e-4,
      value_warmup_steps=60,
      head_learning_rate=5e-3,
      value="head",  # head | logsumexp
      alpha=1.0,
      gamma=1.0,
      segment_length=0,  # 0: to the end of the sequence
      huber=10.0,  # |C| beyond which the loss is linear; 0: quadratic everywhere
      stop_bootstrap=False,
      on_policy_fraction=0.5,
      off_policy="reference",  # reference | teacher
      rollout_temperature=1.0,
      path_consistency=1.0,
      forward_kl=0.0,
      budget_loss=1.0,
  )
  # Constrained path consistency: gate, duals, secondary value.
  config.wheels = _training(
      steps=400,
      learning_rate=3e-4,
      value_warmup_steps=60,
      head_learning_rate=5e-3,
      value="head",
      alpha=1.0,
      gamma=1.0,
      segment_length=0,
      huber=10.0,
      stop_bootstrap=False,
      on_policy_fraction=0.75,
      off_policy="reference",
      rollout_temperature=1.0,
      path_consistency=1.0,
      forward_kl=0.0,
      budget_loss=1.0,
      gate_credit="expected_gap",  # sampled | expected_kl | expected_gap
      gate_regression="advantage",  # advantage | probability
      max_difficulty=10.0,  # nats
      gate_loss=1.0,
      cost_value_loss=1.0,
      gate_sampled=False,  # on-policy asks are drawn from the gate, or follow it greedily
      explore=0.2,  # share of random asks in the exploring half of the on-policy rows
      dual_learning_rate=0.5,
      max_dual=20.0,
      calibration_steps=100,
      calibration_batch_size=128,
      calibration_dual_learning_rate=8.0,
  )

  config.decode = ml_collections.ConfigDict(
      {
          "max_length": 40,  # output tokens
          "chunk": (
              8  # width of the teacher's catch-up pass; 0: the fastest here when asked for 20%
          ),
      }
  )
  config.evaluation = ml_collections.ConfigDict(
      {
          "metric": "bleu",
          "batch_size": 64,
          "num_latency": 32,
          "throughput_batch": 32,
          # what each method of evaluation/methods.py is swept over; (): not run
          "dials": {
              "random": (0.05, 0.1, 0.2, 0.3, 0.5),
              "max_prob": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
              "entropy": (4.0, 3.0, 2.5, 2.0, 1.5, 1.0, 0.6),
              "margin": (0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6),
              "oracle": (4.0, 2.0, 1.0, 0.5, 0.0),
              "speculative": (1, 2, 3, 4, 6),
              **dict.fromkeys(
                  (
                      "periodic",
                      "prefix",
                      "span_max_prob",
                      "prompt_lookup",
                      "lenient",
                      "lenient_8",
                      "typical",
                      "cascade_chow",
                      "cascade_diff",
                      "cascade_opt",
                      "cascade_token_v1",
                      "cascade_token_v2",
                      "cascade_token_v3",
                      "big_little",
                      "verify_max_prob",
                      "verify_max_prob_end",
                      "verify_margin_end",
                      "verify_end",
                  ),
                  (),
              ),
          },
          "offset_shares": (),  # shares to which the gate's offset is brought on validation
          "tolerances": (),  # nats that a checking handover forgives; each is a curve over budgets
          # stages whose students the baselines may use; each takes the best on validation
          "baseline_students": ("distillation", "wheels"),
          "compare_at": (0.1, 0.2, 0.3),
          "num_resamples": 1000,
          "num_samples": 12,
      }
  )
  config.xla_flags = ""  # added to XLA_FLAGS before JAX starts
  config.mesh = ml_collections.ConfigDict({"data": -1, "model": 1})  # -1: all remaining devices
  config.checkpoint = ml_collections.ConfigDict({"keep": 2})
  return config.lock()


def fast_compile_flags() -> str:
  """XLA flags for runs that compile much and compute little: a third of the compile time on CPU.

  XLA ends the process at a flag that it does not know, so the second is named only where it exists.
  """
  known = importlib.metadata.version("jaxlib").startswith("0.10.")
  return "--xla_backend_optimization_level=0" + known * " --xla_cpu_use_fusion_emitters=false"


def shrink(config: ml_collections.ConfigDict) -> None:
  """Makes a config the smallest run that goes through every stage, in place; for tests."""
  config.xla_flags = fast_compile_flags()
  config.teacher.model.update(
      d_model=32,
      d_ff=64,
      num_encoder_layers=1,
      num_decoder_layers=1,
      num_heads=2,
      d_kv=16,
      dropout_rate=0.0,
  )
  config.student.model.update(
      d_model=16,
      d_ff=32,
      num_encoder_layers=1,
      num_decoder_layers=1,
      num_heads=2,
      d_kv=8,
      gate_hidden=16,
      value_hidden=16,
  )
  stages = (config.teacher.train, config.sft, config.warm_start, config.distillation, config.wheels)
  for stage in stages:
    stage.update(steps=8, batch_size=16, warmup_steps=2, log_every=4, checkpoint_every=4)
  config.distillation.value_warmup_steps = config.wheels.value_warmup_steps = 2
  config.wheels.update(calibration_steps=2, calibration_batch_size=16)
  config.budgets.update(train=(0.0, 0.1, 0.2, 0.3), seen=(0.0, 0.2), held_out=(0.15,))
  for name in config.evaluation.dials:
    config.evaluation.dials[name] = ()
  config.evaluation.dials.update(
      random=(0.1, 0.3), max_prob=(0.3, 0.6), oracle=(0.5,), speculative=(2,), lenient=(0.3,)
  )
  config.evaluation.update(
      offset_shares=(0.3,),
      tolerances=(2.0,),
      compare_at=(0.2,),
      num_latency=2,
      num_resamples=50,
      num_samples=4,
      batch_size=1,
      baseline_students=("wheels",),
      throughput_batch=1,
  )
