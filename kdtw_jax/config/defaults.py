"""The default and the meaning of every config field."""

import importlib.metadata
from typing import Any

import ml_collections

STAGES = (
    "tokenizer",
    "teacher",
    "sft",
    "warm_start",
    "distillation",
    "wheels",
    "worth",
    "evaluation",
)


def _model(**fields: Any) -> dict[str, Any]:
  """Returns a model's fields; with `pretrained`, the published model sets its own."""
  sizes = dict(
      d_model=64, d_ff=256, num_heads=4, d_kv=16, num_encoder_layers=2, num_decoder_layers=1
  )
  kinds = dict(
      # t5 | bart, as Pegasus | t5gemma: encoder-decoders | causal: a decoder that reads a prompt
      kind="t5",
      num_key_heads=0,  # of causal models and t5gemma; 0: as many as num_heads
      # relu | gelu (bart) | gated-gelu | gated-silu; causal and t5gemma are gated, bart is not
      feed_forward="relu",
      tie_embeddings=True,
      dropout_rate=0.0,
      dtype="float32",  # of activations and caches: float32 | bfloat16
      param_dtype="float32",  # of frozen parameters; parameters in training are float32
      # what of a layer the backward pass computes again, to save memory: none | dots, all but the
      # products with its parameters | layers, everything
      remat="none",
  )
  return {**sizes, **kinds, **fields}


def _training(**fields: Any) -> dict[str, Any]:
  """Returns the fields that every training stage has."""
  stage = dict(
      steps=1000,
      batch_size=64,
      microbatches=1,  # parts of a batch, worked off one by one: memory of one, steps of all
      optimizer="adamw",  # adamw | muon | adafactor
      learning_rate=1e-3,
      warmup_steps=100,
      final_learning_rate=0.0,
      weight_decay=0.0,
      max_grad_norm=1.0,
      ema_decay=0.0,  # 0 keeps no average of the parameters
      log_every=20,
      checkpoint_every=500,
      readout_chunk=0,  # positions whose logits are in memory at once; 0: all
  )
  return {**stage, **fields}


def _losses(*, own_rows: bool = False, **weights: float) -> dict[str, Any]:
  """Returns the weight and options of token losses, by name in `kdtw_jax.losses.LOSSES`.

  A config file may add any registered loss. A loss of weight 0 is not computed.

  Args:
    own_rows: True for a stage with sequences that the student wrote; a loss may take them alone.
    **weights: weights that are not 0.
  """
  options = {"generalized_jsd": {"beta": 0.5}}
  names = ("cross_entropy", "forward_kl", "reverse_kl", "generalized_jsd")
  rows = {"rows": "all"} if own_rows else {}  # all | on_policy | off_policy
  return {
      name: {"weight": weights.get(name, 0.0), **rows, **options.get(name, {})} for name in names
  }


def _path_consistency(**fields: Any) -> dict[str, Any]:
  """Returns the fields that both stages of path consistency have."""
  stage = dict(
      learning_rate=3e-4,
      value_warmup_steps=60,  # steps in which only the heads learn
      head_learning_rate=5e-3,
      value="head",  # head | logsumexp
      alpha=1.0,
      gamma=1.0,
      segment_length=0,  # tokens; 0: to the end of the sequence
      huber=10.0,  # |C| above which the loss is linear; 0: quadratic everywhere
      stop_bootstrap=False,
      consistency_rows="on_policy",  # all | on_policy | off_policy; the rows that V is fitted to
      off_policy="reference",  # reference | teacher
      rollout_temperature=1.0,  # of the student's tokens and of the teacher's; 0: greedy
      path_consistency=1.0,  # weight
      budget_loss=1.0,  # weight of predicting the budget from the instruction
      losses=_losses(own_rows=True),
  )
  return _training(**stage, **fields)


def defaults() -> ml_collections.ConfigDict:
  """Returns a config with the default of every field, locked and type-safe."""
  config = ml_collections.ConfigDict()
  config.name = "demo"
  config.seed = 0
  config.stages = STAGES  # stages to run; one left out is loaded if the workdir has its result
  config.plugins = ()  # modules that register your own policies and losses

  config.data = dict(
      source="phrasebook",  # phrasebook | text | jsonl | tsv | csv | parquet | datasets | tfds
      # folder with a file per split, or one file of all examples (not for text); of `datasets`, a
      # hub id, owner/name or owner/name@revision, too
      path="",
      subset="",  # configuration of a data set of `datasets`, e.g. "de-en"
      # where the two sides are: fields, columns, features, or the first part of names of text files
      source_field="en",
      target_field="de",
      reference_fields=(),
      task="",  # what both models are told to do with a source, e.g. "summarize"
      tfds_name="",
      tfds_data_dir="",
      train_split="train",
      validation_split="validation",
      test_split="test",
      # number of examples; 0: all (the phrasebook needs a number)
      num_train=20000,
      num_validation=400,
      num_test=400,
      # what validation and test each get of the examples of train, if they have no file: a share
      # below 0.5, or a number of examples; 0: nothing, each must have a file
      held_out=0.0,
      seed=0,
      join=1,  # consecutive examples that are joined to one longer text
      over_long="drop",  # drop | truncate; evaluation always truncates sources
      # (source, target) lengths in tokens, with EOS, without the instruction
      buckets=((16, 16), (24, 24), (40, 40)),
      # tokens reserved for the student's instruction; 0: the length of the longest one
      prompt_length=20,
  )
  config.tokenizer = dict(
      # a SentencePiece model with `<τ>`, or a published tokenizer's folder; "": the tokenizer of
      # the published models, or if there are none, one trained in the workdir
      path="",
      kind="bpe",  # bpe | unigram
      vocab_size=2000,  # number of ids; 0: chosen for the text that it is trained on
      # languages of the data, as a model that translates many names them, e.g. "eng_Latn" (NLLB),
      # "en" (M2M-100) or "en_XX" (mBART); "": the model has none
      source_language="",
      target_language="",
  )
  config.budgets = dict(
      knots=(0.0, 0.05, 0.1, 0.2, 0.3, 0.5),  # λ(B) is linear between these
      # budgets in training prompts; those of held_out must not occur here
      train=tuple(b / 100 for b in range(0, 51) if b not in (7, 15, 25, 40)),
      seen=(0.0, 0.05, 0.1, 0.2, 0.3, 0.5),  # evaluated, and in training prompts
      held_out=(0.07, 0.15, 0.25, 0.4),  # evaluated, but never in a training prompt
  )

  config.teacher = dict(
      model=_model(d_model=128, d_ff=512, d_kv=32, num_decoder_layers=2, dropout_rate=0.1),
      # mesh axes that split the parameters: fsdp+tensor | fsdp | tensor | whole
      sharding="fsdp+tensor",
      checkpoint="",  # workdir of a finished run whose teacher to use
      pretrained="",  # folder or hub id of a published model; train.steps=0 does not train it
      # kernels of layers in eight bits, with a scale for each output, once the teacher is trained
      int8=False,
      train=_training(label_smoothing=0.1),
  )
  config.student = dict(
      sharding="fsdp+tensor",  # as of the teacher
      pretrained="",  # folder or hub id of a published model, from which sft and warm_start start
      # rank of the change that each stage trains of each kernel, which is merged at its end; 0:
      # all parameters train. The change is scaled by lora_alpha / lora_rank
      lora_rank=0,
      lora_alpha=16.0,
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
  # What the teacher gives to sequences that stay the same, computed once for stages with
  # teacher_scores="stored"; these train without the teacher.
  config.scores = dict(
      path="",  # folder that several runs may share; "": data/scores in the workdir
      # largest probabilities kept of each token's distribution, 4 bytes each (6 if there are more
      # than 65,536 ids); 0: that of the token itself alone, 4 bytes
      top_k=32,
      batch_size=128,
      readout_chunk=0,
  )
  # Baseline: the student on references alone, without the teacher.
  config.sft = _training(label_smoothing=0.1)
  # Distillation of the teacher's distribution, with random budget prompts.
  config.warm_start = _training(
      losses=_losses(forward_kl=1.0),
      budget_loss=1.0,
      teacher_scores="live",  # live | stored, see `scores`
  )
  # Path consistency without the gate.
  distillation = _path_consistency(
      steps=300,
      on_policy_fraction=0.5,
      # sampled | expected: the student's own token in r_t − α log π; the expectation is over π, of
      # which rollouts are samples at rollout_temperature=1 alone
      immediate="expected",
      average_reward=False,  # True: terms less their mean, so that no output gains by its length
      # live | stored, see `scores`: one sample of each source, if off_policy="teacher"
      teacher_scores="live",
      teacher_mixing=0.0,  # probability with which the teacher writes a token of an on-policy row
  )
  distillation["losses"]["forward_kl"].update(weight=1.0, rows="off_policy")
  config.distillation = distillation
  # Constrained path consistency: gate, duals, cost value.
  config.wheels = _path_consistency(
      steps=400,
      on_policy_fraction=0.75,
      gate_credit="expected_gap",  # sampled | expected_kl | expected_gap
      gate_regression="advantage",  # advantage | probability
      max_difficulty=10.0,  # nats
      gate_loss=1.0,
      cost_value_loss=1.0,
      gate_sampled=False,  # True samples on-policy asks from the gate, False takes them greedily
      explore=0.2,  # share of random asks in the exploring half of the on-policy rows
      dual_learning_rate=0.5,
      max_dual=20.0,
  )
  # Dual ascent on validation sources with a frozen student; 0 steps skip it.
  config.calibration = dict(steps=100, batch_size=128, dual_learning_rate=8.0)

  # The heads that say what help is worth, and V_C; the rest of the student stays as it is.
  config.worth = dict(
      num_sources=2048,  # of the training split, and as many of validation
      batch_size=128,  # sources that are decoded together; examples of a split in a minibatch
      tolerance=0.5,  # nats by which a draft may fall short of the teacher's choice and stay
      # what help is worth: the rise of an output's score (the mean of its scores under
      # evaluation.metric, 0..100) or of log_mu (nats), which needs no references
      gain="score",  # score | log_mu
      steps=2000,
      learning_rate=1e-2,
  )

  config.decode = dict(
      max_length=40,  # output tokens
      chunk=8,  # width of the teacher's usual pass; 0: the width measured fastest at 20% asks
      wait=0.5,  # share of the unfinished rows that must need the teacher before it runs
      # rows of the teacher's smaller pass, which reads and checks drafts where few need it:
      # faster where arithmetic takes the time, as on a CPU; 0: passes take the whole batch
      pass_rows=0,
      # κ of budgets, in units of each policy's own: what an ask ahead of the budget takes from the
      # score of the next; if there are several, validation chooses for each form and asker
      paces=(0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
      # quantile of the output's length, given the source's, that a hard budget counts on
      shortest_quantile=0.2,
  )
  config.evaluation = dict(
      metric="bleu",  # bleu | rouge | exact_match
      batch_size=64,
      num_latency=32,  # number of sentences timed one by one
      # False times only the models alone, exact speculation and the gate: to time a method, a
      # program for one row is compiled
      time_every_method=True,
      throughput_batch=32,
      # registered policies to sweep, or ("all",); one missing from `dials` uses its default dials
      methods=("random", "max_prob", "entropy", "margin", "oracle", "speculative"),
      dials=dict(
          random=(0.05, 0.1, 0.2, 0.3, 0.5),
          max_prob=(0.1, 0.2, 0.3, 0.45, 0.65),
          entropy=(4.0, 3.0, 2.2, 1.5, 0.8),
          margin=(0.02, 0.06, 0.15, 0.3, 0.5),
          oracle=(4.0, 2.0, 1.0, 0.3, 0.0),
          speculative=(2, 3, 4, 6, 8),
      ),
      offset_shares=(),  # shares of teacher tokens for which validation sets the gate's offset
      tolerances=(),  # nats that a checking handover tolerates; each gives a curve over budgets
      # stages whose students the baselines may use; each uses the one best on validation
      baseline_students=("distillation", "wheels"),
      compare_at=(0.1, 0.2, 0.3),  # budgets that are timed; the middle one gives the word map
      ours=("handover",),  # families to compare with the hull of all methods outside them
      # calls, or tokens of the teacher, per output token at which they are compared
      equal_calls=(0.05, 0.1, 0.15, 0.2),
      # costs of a student step in teacher passes at which they are compared, besides the measured
      step_ratios=(0.02, 0.1, 0.3),
      num_resamples=1000,
      num_samples=12,
  )
  # PROJECT or ENTITY/PROJECT of Weights & Biases that gets TensorBoard's scalars too; "": none
  config.log = dict(wandb="")
  config.xla_flags = ""  # added to XLA_FLAGS before JAX starts
  # devices along each axis; one may be -1, all that the others leave: docs/howto/machines.md
  config.mesh = dict(
      data=-1,  # share the batch
      fsdp=1,  # share the batch, and the width of parameters and of the optimizer's state
      tensor=1,  # share heads, feed-forward widths and the vocabulary
  )
  config.checkpoint = dict(keep=2)
  return config.lock()


def fast_compile_flags() -> str:
  """Returns XLA flags that cut compile time on CPU to a third, for runs that compute little.

  XLA exits at an unknown flag, so the last one is given only to versions that have it.
  """
  flags = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
  if importlib.metadata.version("jaxlib").startswith("0.10."):
    flags.append("--xla_cpu_use_fusion_emitters=false")
  return " ".join(flags)
