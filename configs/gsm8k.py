"""GSM8K, grade-school mathematics in words: Qwen3-8B teaches Qwen3-0.6B to ask at hard steps.

    pip install "kdtw-jax[datasets]"
    python -m kdtw_jax.main --config=configs/gsm8k.py --workdir=runs/gsm8k

Cobbe et al. 2021, https://arxiv.org/abs/2110.14168. The models are asked through their chat
template; the student learns the worked solutions, whose last line is "#### answer". Metric: the
share of right answers. Arguments, all optional:

    teacher    folder or hub id of a Qwen2, Qwen3, Llama 3, Gemma 2 or Gemma 3
    student    likewise, with the same vocabulary
    objective  a method of distillation, see objectives.py
    smoke      the same steps in a minute, for tests: made-up sums and random models, see below

Own problems: `--config.data.source=jsonl --config.data.path=DIR` with a `question` and an `answer`
per line. Smoke needs such files too, and models: `launch/smoke.sh gsm8k --causal` makes both.
Hardware, estimated and not yet run at full size: one 80 GB GPU (teacher 16 GB in bfloat16, student
with optimizer and average 12 GB, the rest activations and caches of 64 rows), about a day; eight
v5e chips with `--config.mesh.fsdp=8`, about half a day.
"""

from configs import common, objectives
from kdtw_jax.config import defaults


def get_config(arg=None):
  """Returns the config; the module lists the arguments."""
  args = common.parse_arg(
      arg, ("smoke",), teacher="Qwen/Qwen3-8B", student="Qwen/Qwen3-0.6B", objective=""
  )
  config = defaults()
  with config.unlocked():
    config.name = "gsm8k"
    common.from_published(config, teacher=args.options.teacher, student=args.options.student)
    config.data.update(
        source="datasets",
        path="openai/gsm8k",
        subset="main",
        source_field="question",
        target_field="answer",
        task="solve step by step, and end with #### and the answer",
        held_out=0.05,  # of train, for validation
        num_train=0,
        num_validation=300,
        num_test=0,
        buckets=((128, 128), (256, 256)),
    )
    config.decode.max_length = 320
    config.evaluation.metric = "exact_match"
    if args.mode == "smoke":
      common.shrink_published(config)
      config.data.update(source="jsonl", path="", num_train=64)
    objectives.use(config, args.options.objective)
  return config
