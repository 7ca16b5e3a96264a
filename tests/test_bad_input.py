"""Nothing silly is accepted: every mistake is one line with the field, its value and the remedy.

Values of a config, and values that contradict each other; command lines are in
test_command_line.py, files in data/test_bad_files.py. A case is the input and what its message must
say.
"""

import pytest

from kdtw_jax import config as config_lib
from tests.refusing import config_with, refused

INF, NAN, HUGE = float("inf"), float("nan"), 10**400
TRAINING = ("teacher.train", "sft", "warm_start", "distillation", "wheels")
PATHS = ("distillation", "wheels")
NUMBER, WHOLE, TUPLE, TEXT = "must be a number", "must be a whole number", "a tuple", "must be text"
SHARES = "increasing shares in [0, 1]"

VALUES = [
    # what every stage that trains has
    *[
        (f"{stage}.learning_rate", value, "must be > 0 and <= 1")
        for stage in TRAINING
        for value in (INF, NAN, -1e-3)
    ],
    ("sft.learning_rate", -INF, "must be > 0"),
    ("sft.learning_rate", 100.0, "<= 1"),
    ("sft.learning_rate", "0.1", NUMBER),
    ("sft.learning_rate", True, NUMBER),
    ("sft.learning_rate", None, NUMBER),
    ("sft.learning_rate", (0.1,), NUMBER),
    ("sft.learning_rate", [0.1], NUMBER),
    ("sft.weight_decay", HUGE, NUMBER),
    ("sft.final_learning_rate", -1e-4, "must be >= 0"),
    ("sft.final_learning_rate", NAN, "must be >= 0"),
    ("wheels.weight_decay", -0.1, "must be >= 0"),
    ("wheels.weight_decay", INF, "<= 10"),
    ("sft.max_grad_norm", 0.0, "must be > 0"),
    ("sft.max_grad_norm", INF, "must be > 0"),
    ("sft.ema_decay", 1.0, "<= 0.99999"),
    ("sft.ema_decay", -0.5, "must be >= 0"),
    ("sft.ema_decay", NAN, "must be >= 0"),
    ("sft.steps", -1, "must be >= 0"),
    ("sft.steps", 10**30, "<= 1,000,000,000"),
    ("sft.steps", 2.5, WHOLE),
    ("sft.steps", True, WHOLE),
    ("sft.steps", "many", WHOLE),
    ("sft.steps", None, WHOLE),
    ("sft.steps", (3,), WHOLE),
    ("sft.batch_size", 0, "must be >= 1"),
    ("wheels.batch_size", 10**9, "<= 1,048,576"),
    ("sft.warmup_steps", -1, "must be >= 0"),
    ("sft.log_every", 0, "must be >= 1"),
    ("sft.checkpoint_every", 0, "must be >= 1"),
    ("sft.readout_chunk", -1, "must be >= 0"),
    ("sft.optimizer", "sgd", "must be one of adamw, muon, adafactor"),
    ("sft.optimizer", None, TEXT),
    ("sft.label_smoothing", 1.0, "must be >= 0 and < 1"),
    ("sft.label_smoothing", 2, "< 1"),
    ("teacher.train.label_smoothing", -0.1, "must be >= 0"),
    ("teacher.train.label_smoothing", NAN, "must be >= 0"),
    # losses
    *[
        (f"{stage}.losses.forward_kl.weight", value, "must be >= 0")
        for stage in ("warm_start", *PATHS)
        for value in (-1.0, NAN, INF)
    ],
    *[
        ("warm_start.losses.generalized_jsd.beta", value, "must be > 0 and < 1")
        for value in (0.0, 1.0, 2.0, NAN)
    ],
    ("warm_start.losses.forward_kl", 1.0, "is a section, with the fields weight"),
    ("warm_start.losses.forward_kl.wieght", 1.0, "unknown field; did you mean 'weight'?"),
    ("warm_start.losses.mine", 1.0, "must be a dictionary with the loss's weight"),
    ("warm_start.losses.mine", {"tail": 1.0}, "mine.weight=None: must be a number"),
    ("warm_start.losses.mine", {"weight": -1.0}, "mine.weight=-1.0: must be >= 0"),
    ("warm_start.losses.mine", {"weight": 1.0, "tail": NAN}, "mine.tail=nan: must be finite"),
    ("warm_start.budget_loss", -1.0, "must be >= 0"),
    ("wheels.gate_loss", NAN, "must be >= 0"),
    ("wheels.cost_value_loss", INF, "<= 1,000"),
    ("wheels.path_consistency", -0.05, "must be >= 0"),
    # path consistency
    ("wheels.alpha", NAN, "must be > 0"),
    ("wheels.alpha", INF, "must be > 0"),
    ("wheels.gamma", 1.01, "<= 1"),
    ("wheels.gamma", NAN, "must be >= 0"),
    ("wheels.huber", -1.0, "must be >= 0"),
    ("wheels.huber", NAN, "must be >= 0"),
    ("wheels.segment_length", -2, "must be >= 0"),
    ("wheels.value", "q", "must be one of head, logsumexp"),
    ("wheels.off_policy", "student", "must be one of reference, teacher"),
    ("wheels.rollout_temperature", -1.0, "must be >= 0"),
    ("wheels.rollout_temperature", INF, "<= 100"),
    ("wheels.on_policy_fraction", NAN, "must be >= 0 and <= 1"),
    ("wheels.head_learning_rate", 0.0, "must be > 0"),
    ("wheels.head_learning_rate", INF, "must be > 0"),
    ("wheels.value_warmup_steps", -1, "must be >= 0"),
    ("wheels.stop_bootstrap", "yes", "must be True or False"),
    ("wheels.stop_bootstrap", 1, "must be True or False"),
    ("wheels.gate_credit", "", "must be one of sampled"),
    ("wheels.gate_regression", "mse", "must be one of advantage, probability"),
    ("wheels.explore", -0.1, "must be >= 0"),
    ("wheels.explore", NAN, "must be >= 0"),
    ("wheels.max_difficulty", 0.0, "must be > 0"),
    ("wheels.max_difficulty", INF, "must be > 0"),
    ("wheels.max_dual", -20.0, "must be > 0"),
    ("wheels.max_dual", NAN, "must be > 0"),
    ("wheels.dual_learning_rate", -0.5, "must be >= 0"),
    ("wheels.dual_learning_rate", NAN, "must be >= 0"),
    ("calibration.steps", -1, "must be >= 0"),
    ("calibration.batch_size", -5, "must be >= 1"),
    ("calibration.batch_size", 0, "must be >= 1"),
    ("calibration.dual_learning_rate", NAN, "must be >= 0"),
    ("calibration.dual_learning_rate", -8.0, "must be >= 0"),
    ("calibration", 3, "is a section, with the fields batch_size, "),
    # the run
    ("name", "", "must be a short name"),
    ("name", "   ", "must be a short name"),
    ("name", "a/b", "without / or"),
    ("name", "..", "with a letter or a digit"),
    ("name", "a\nb", "must be a short name"),
    ("name", "x" * 1000, "must be a short name"),
    ("name", 3, TEXT),
    ("seed", -1, "must be >= 0"),
    ("seed", 2**63, "<= 100,000,000"),
    ("seed", HUGE**20, "<= 100,000,000"),
    ("seed", 1.5, WHOLE),
    ("stages", ("teacher", "tokenizer"), "in this order"),
    ("stages", ("teacher", "teacher"), "each once"),
    ("stages", ("teacher", 3), "must be a non-empty selection"),
    ("stages", (("teacher",),), "must be a non-empty selection"),
    ("stages", "teacher", TUPLE),
    ("stages", None, TUPLE),
    ("plugins", (3,), "must be names of modules"),
    ("plugins", ("",), "must be names of modules"),
    ("plugins", ("my plugin",), "must be names of modules"),
    ("plugins", ("../evil.py",), "must be names of modules"),
    ("plugins", ("a", "a"), "each once"),
    ("plugins", "mine", TUPLE),
    ("xla_flags", "flags.txt", "each begun by --"),
    ("xla_flags", "--a\n--b", "flags of XLA"),
    ("mesh.data", 0, "must be -1 (all that remain) or >= 1"),
    ("mesh.data", -2, "must be -1"),
    ("mesh.fsdp", 0, "must be -1 (all that remain) or >= 1"),
    ("mesh.tensor", 2**21, "must be -1"),
    ("teacher.sharding", "model", "must be one of fsdp+tensor, fsdp, tensor, whole"),
    ("checkpoint.keep", 0, "must be >= 1"),
    # data
    ("data.num_train", -1, "must be >= 0"),
    ("data.num_test", 2**40, "<= 2,147,483,647"),
    ("data.held_out", -0.1, "must be 0, a share below 0.5, or a whole number of examples"),
    ("data.held_out", 0.5, "a share below 0.5"),
    ("data.held_out", 2.5, "a whole number"),
    ("data.held_out", float("nan"), "a share below 0.5"),
    ("data.held_out", float("inf"), "a whole number"),
    ("data.held_out", "5%", "must be a number, not str"),
    ("data.seed", -1, "must be >= 0"),
    ("data.seed", 2**63, "<= 2,147,483,647"),
    ("data.prompt_length", -1, "must be >= 0"),
    ("data.prompt_length", 10**7, "<= 4,096"),
    ("data.over_long", "keep", "must be one of drop, truncate"),
    ("data.path", "gs://bucket/data", "mount a bucket"),
    ("teacher.checkpoint", "s3://a/b", "mount a bucket"),
    ("data.path", "a\0b", "printable"),
    ("data.path", "\ud800", "printable"),
    ("data.path", 3, TEXT),
    ("data.path", None, TEXT),
    ("data.source_field", "", "not empty"),
    ("data.target_field", " ", "not empty"),
    ("data.train_split", "", "not empty"),
    ("data.reference_fields", ("a", "a"), "each once"),
    ("data.reference_fields", (3,), "must be names of fields"),
    ("data.reference_fields", "ann0", TUPLE),
    ("data.task", "summarize:", "without colon"),
    ("data.task", "say {percent}", "braces"),
    ("data.task", "two\nlines", "on one line"),
    ("data.buckets", (), "pairs of lengths > 1"),
    ("data.buckets", (16, 16), "pairs of lengths > 1"),
    ("data.buckets", ((16,),), "pairs of lengths > 1"),
    ("data.buckets", ((16.5, 16),), "pairs of lengths > 1"),
    ("data.buckets", (("16", "16"),), "pairs of lengths > 1"),
    ("data.buckets", ((True, 16),), "pairs of lengths > 1"),
    ("data.buckets", ((10**9, 16),), "<= 131,072"),
    ("data.buckets", ((24, 24), (16, 16)), "(16, 16) after (24, 24): order the buckets"),
    ("data.buckets", ((24, 24), (24, 24)), "order the buckets"),
    ("data.buckets", 40, TUPLE),
    ("tokenizer.vocab_size", 3, "must be >= 32"),
    ("tokenizer.vocab_size", -1, "or 0 (chosen)"),
    ("tokenizer.vocab_size", 10**9, "<= 1,000,000"),
    ("tokenizer.kind", "wordpiece", "must be one of unigram, bpe"),
    ("tokenizer.source_language", "eng Latn", "must be the model's name of a language"),
    ("tokenizer.path", "\n", "printable"),
    # budgets
    ("budgets.knots", (0.0,), "two or more"),
    ("budgets.knots", (0.0, NAN), SHARES),
    ("budgets.knots", (0.0, INF), SHARES),
    ("budgets.knots", ("0", "1"), SHARES),
    ("budgets.knots", 0.5, TUPLE),
    ("budgets.train", (), "one or more"),
    ("budgets.train", (0.2, 0.1), SHARES),
    ("budgets.train", (20, 30), SHARES),
    ("budgets.train", tuple(i / 10**4 for i in range(1500)), SHARES),
    ("budgets.seen", (), "one or more"),
    ("budgets.seen", (0.1, 0.1), SHARES),
    ("budgets.seen", (-0.1,), SHARES),
    ("budgets.seen", (True,), SHARES),
    ("budgets.held_out", (0.123456,), "to four decimals"),  # reads as another budget in words
    ("budgets.held_out", None, TUPLE),
    # models
    *[
        (f"{who}.model.{name}", 0, "must be >= 1")
        for who in ("student", "teacher")
        for name in ("d_model", "d_ff", "num_heads", "d_kv", "num_encoder_layers")
    ],
    ("student.model.num_encoder_layers", 10**5, "<= 256, more than any model of today has"),
    ("teacher.model.num_decoder_layers", 10**5, "<= 256"),
    ("teacher.model.d_model", 10**7, "<= 32,768"),
    ("teacher.model.d_ff", 10**9, "<= 262,144"),
    ("teacher.model.num_heads", 10**6, "<= 512"),
    ("student.model.gate_hidden", -1, "must be >= 1"),
    ("student.model.value_hidden", 10**8, "<= 65,536"),
    ("student.model.gate_top_k", 0, "must be >= 1"),
    ("student.model.gate_top_k", 2.5, WHOLE),
    ("student.model.gate_alpha", NAN, "must be > 0"),
    ("student.model.gate", "none", "must be one of token, mlp"),
    ("student.model.gate", True, TEXT),
    ("student.model.feed_forward", "swish", "must be one of relu, gelu, gated-gelu"),
    ("student.model.dropout_rate", 1.0, "must be >= 0 and < 1"),
    ("student.model.dropout_rate", NAN, "must be >= 0"),
    ("student.model.dtype", "float16", "must be one of float32, bfloat16"),
    ("student.model.param_dtype", "bfloat16", "must be float32"),
    ("student.model.tie_embeddings", None, "must be True or False"),
    ("teacher.model", 3, "is a section"),
    ("teacher.checkpoint", "\x1b[31m", "printable"),
    ("teacher.pretrained", 7, TEXT),
    # evaluation
    ("decode.max_length", 0, "must be >= 1"),
    ("decode.max_length", 10**9, "<= 131,072"),
    ("decode.chunk", 10**6, "<= 1,024"),
    ("evaluation.metric", "comet", "must be one of bleu, rouge"),
    ("evaluation.batch_size", 0, "must be >= 1"),
    ("evaluation.num_latency", 0, "must be >= 1"),
    ("evaluation.throughput_batch", 0, "must be >= 1"),
    ("evaluation.num_resamples", 0, "must be >= 10"),
    ("evaluation.num_samples", -1, "must be >= 0"),
    ("evaluation.methods", ("random", "random"), "each once"),
    ("evaluation.methods", ("all", "random"), "or ('all',)"),
    ("evaluation.methods", (1,), "must be names of policies"),
    ("evaluation.methods", "all", TUPLE),
    ("evaluation.dials.random", (), "one or more finite numbers"),
    ("evaluation.dials.random", (0.1, 0.1), "each once"),
    ("evaluation.dials.random", (1, 1.0), "each once"),
    ("evaluation.dials.random", (NAN,), "finite"),
    ("evaluation.dials.random", (INF,), "finite"),
    ("evaluation.dials.random", ("0.1",), "finite numbers"),
    ("evaluation.dials.random", (True,), "finite numbers"),
    ("evaluation.dials.random", (HUGE,), "finite numbers"),
    ("evaluation.dials.random", 0.1, TUPLE),
    ("evaluation.dials.mine", (), "one or more finite numbers"),
    ("evaluation.offset_shares", (1.5,), SHARES),
    ("evaluation.tolerances", (-1.0,), "must be nats >= 0"),
    ("evaluation.tolerances", (NAN,), "must be nats >= 0"),
    ("evaluation.baseline_students", (), "must name wheels"),
    ("evaluation.baseline_students", ("wheels", "wheels"), "each once"),
    ("evaluation.compare_at", (), "one or more"),
    ("evaluation.ours", ("handover", "handover"), "must be names of families of policies, each"),
    ("evaluation.equal_calls", (0.1, 1.5), SHARES),
    ("evaluation.step_ratios", (-0.1,), "must be numbers of teacher passes in [0, 10]"),
    ("evaluation.step_ratios", (0.1, 0.1), "each once"),
    ("evaluation.compare_at", (NAN,), SHARES),
]

CONTRADICTIONS = [
    ({"sft.steps": 50}, "config.sft.warmup_steps=100: must be <= 50, config.sft.steps=50"),
    ({"wheels.steps": 60}, "config.wheels.value_warmup_steps=60: must be < config.wheels.steps=60"),
    ({"wheels.steps": 120}, "config.wheels.warmup_steps=100: must be <= 60"),
    (
        {"sft.final_learning_rate": 0.01},
        "config.sft.final_learning_rate=0.01: must be <= config.sft.learning_rate=0.001",
    ),
    (
        {"sft.optimizer": "adafactor", "sft.weight_decay": 0.1},
        "config.sft.weight_decay=0.1: must be 0 with adafactor",
    ),
    (
        {"wheels.optimizer": "muon", "wheels.weight_decay": 0.1},
        "config.wheels.weight_decay=0.1: must be 0 with muon, whose decay spares no norms",
    ),
    (
        {"distillation.teacher_mixing": 0.2},
        "config.distillation.teacher_mixing=0.2: must be 0, or config.distillation.immediate sam",
    ),
    (
        {"distillation.rollout_temperature": 0.0},
        "config.distillation.rollout_temperature=0.0: must be > 0, or config.distillation.immedi",
    ),
    (
        {"distillation.average_reward": True, "distillation.microbatches": 2},
        "config.distillation.microbatches=2: must be 1, or config.distillation.average_reward Fal",
    ),
    (
        {"distillation.path_consistency": 0.0},
        "config.distillation.value_warmup_steps=60: must be 0 with config.distillation.path_cons",
    ),
    (
        {"distillation.on_policy_fraction": 0.007},
        "config.distillation.on_policy_fraction=0.007: gives the student no row of config.distil",
    ),
    (
        {"distillation.on_policy_fraction": 0.999},
        "config.distillation.losses.forward_kl={'rows': 'off_policy', 'weight': 1.0}: takes off_",
    ),
    (
        {"tokenizer.source_language": "en", "student.pretrained": "x"},
        "config.tokenizer.target_language='': must be named, as the language of sources is",
    ),
    (
        {"student.lora_rank": 4},
        "config.student.lora_rank=4: must be 0 without config.student.pretrained",
    ),
    (
        {
            "student.lora_rank": 4,
            "student.pretrained": "x",
            "student.model.gate": "token",
            "calibration.steps": 0,
        },
        "config.student.lora_rank=4: must be 0 with config.student.model.gate='token'",
    ),
    (
        {"distillation.teacher_scores": "stored"},
        "config.distillation.teacher_scores='stored': config.distillation.on_policy_fraction=0.5 "
        "has rows that the student writes anew",
    ),
    (
        {"warm_start.teacher_scores": "stored", "scores.top_k": 0},
        "config.scores.top_k=0: must be >= 1: config.warm_start.losses.forward_kl compares",
    ),
    (
        {"wheels.on_policy_fraction": 0.0, "wheels.consistency_rows": "all"},
        "config.wheels.on_policy_fraction=0.0: must be > 0: the prices and the asks to come are",
    ),
    (
        {"student.model.gate": "token"},
        "config.calibration.steps=100: must be 0 with config.student.model.gate='token', which",
    ),
    ({"warm_start.losses.forward_kl.weight": 0.0}, "config.warm_start.losses={'cross_entropy'"),
    (
        {"distillation.path_consistency": 0.0, "distillation.losses.forward_kl.weight": 0.0},
        "every weight is 0: give one of them a weight",
    ),
    ({"budgets.knots": (0.0, 0.3)}, "must cover config.budgets.train, from 0.0 to 0.5"),
    ({"budgets.knots": (0.1, 0.5)}, "must cover config.budgets.train, from 0.0 to 0.5"),
    ({"budgets.held_out": (0.7,)}, "config.budgets.held_out=(0.7,): must lie within"),
    ({"budgets.held_out": (0.1,)}, "[0.1] also in config.budgets.train: remove them"),
    ({"budgets.held_out": (0.1 + 1e-12,)}, "also in config.budgets.train: remove them"),
    ({"budgets.seen": (0.1, 0.7)}, "[0.7] not in config.budgets.train: add them there"),
    ({"evaluation.compare_at": (0.9,)}, "config.evaluation.compare_at=(0.9,): must lie within"),
    ({"data.source": "text"}, "config.data.path='': config.data.source='text' needs a path"),
    ({"data.source": "jsonl", "data.path": " "}, "config.data.path=' ': "),
    ({"data.source": "parquet"}, "config.data.path='': config.data.source='parquet' needs a path"),
    (
        {"data.held_out": 0.1},
        "config.data.held_out=0.1: config.data.source='phrasebook' has splits",
    ),
    ({"data.source": "tfds", "data.path": "/x"}, "config.data.tfds_name='': "),
    ({"data.num_train": 0}, "config.data.num_train=0: the phrasebook is endless"),
    ({"data.num_test": 0}, "config.data.num_test=0: the phrasebook is endless"),
    ({"data.test_split": "train"}, "config.data.test_split='train': is the training split"),
    ({"data.validation_split": "train"}, "config.data.validation_split='train': is the training"),
    ({"data.target_field": "en"}, "config.data.target_field='en': is the source too"),
    ({"decode.max_length": 39}, "config.decode.max_length=39: must be at least the longest target"),
    ({"student.model.value_heads": False}, "config.student.model.value_heads=False: must be True"),
    ({"mesh.fsdp": -1}, "config.mesh.fsdp=-1: config.mesh.data is -1 too: give one of them a"),
    ({"teacher.train.steps": 0}, "config.teacher.train.steps=0: leaves a teacher that knows"),
    (
        {"tokenizer.vocab_size": 100, "student.model.gate_top_k": 200},
        "config.student.model.gate_top_k=200: must be <= config.tokenizer.vocab_size=100",
    ),
    (
        {
            "teacher.model.num_encoder_layers": 256,
            "teacher.model.d_model": 2**15,
            "teacher.model.d_ff": 2**18,
        },
        "config.teacher.model.d_model=32768: makes a model of 4e+12 parameters",
    ),
]


@pytest.mark.parametrize("field, value, said", VALUES, ids=range(len(VALUES)))
def test_a_value_that_cannot_be(field, value, said):
  refused(lambda: config_lib.validate(config_with({field: value})), f"config.{field}", said)


@pytest.mark.parametrize("changes, said", CONTRADICTIONS)
def test_values_that_contradict_each_other(changes, said):
  refused(lambda: config_lib.validate(config_with(changes)), said)


@pytest.mark.parametrize("value", (None, {}, 3, "config"))
def test_what_is_no_config(value):
  refused(lambda: config_lib.validate(value), "must be a ConfigDict", "config.defaults()")


@pytest.mark.parametrize("field", ("seed", "wheels.alpha", "sft", "data.buckets"))
def test_a_field_that_is_missing(field):
  config = config_with({})
  *sections, name = field.split(".")
  section = config
  for part in sections:
    section = section[part]
  del section[name]
  said = f"config.{field}: is missing: begin with kdtw_jax.config.defaults()"
  refused(lambda: config_lib.validate(config), said)


def test_options_of_losses_of_ones_own_have_no_ranges_of_fields():
  changes = {"gamma": 2.0, "alpha": 0.0, "value": "soft", "huber": -1.0, "weight": 1.0}
  config = config_with({})
  config.warm_start.losses.focal = changes
  config_lib.validate(config)
