"""WMT news translation with published models: Flan-T5-XL (2.8 B) teaches Flan-T5-small (77 M).

    tfds build wmt14_translate/de-en --file_format=array_record   # once; needs tensorflow
    python -m kdtw_jax.main --config=configs/wmt.py --workdir=runs/wmt

Arguments, all optional, e.g. `configs/wmt.py:pair=en-fr,student=google-t5/t5-base`:

    pair       source-target; English and one of cs de fr hi ru (WMT14) or fi ro tr (WMT16)
    teacher    folder or hub id of a published model with safetensors weights
    student    likewise, with the same vocabulary
    languages  source/target, by their names in models that are told them instead of the task:
               NLLB eng_Latn/deu_Latn, M2M-100 en/de, MADLAD-400 /de, TranslateGemma en/de-DE
    objective  a method of distillation, see objectives.py
    smoke      the same steps in a minute, for tests: launch/smoke.sh wmt

Hardware: one 80 GB GPU or four TPU chips. Time: estimated at one or two days; not yet run at full
size. Metric: sacreBLEU on newstest2014 (WMT16: newstest2016). Raffel et al. 2020, table 14, report
26.7 (T5-small) and 31.8 (T5-3B) for en-de, fine-tuned and with beam search; decoding here is
greedy. To train the teacher on the references first: `--config.teacher.train.steps=20000`.
"""

from configs import common, objectives
from kdtw_jax.config import defaults

LANGUAGES = {
    "en": "English",
    "cs": "Czech",
    "de": "German",
    "fr": "French",
    "hi": "Hindi",
    "ru": "Russian",
    "fi": "Finnish",
    "ro": "Romanian",
    "tr": "Turkish",
}
WMT16 = ("fi", "ro", "tr")


def get_config(arg=None):
  """Returns the config; the module lists the arguments."""
  args = common.parse_arg(
      arg,
      ("smoke",),
      pair="en-de",
      teacher=common.TEACHER,
      student=common.STUDENT,
      languages="",
      objective="",
  )
  source, target = _languages(args.options.pair)
  other = target if source == "en" else source
  year = "16" if other in WMT16 else "14"
  config = defaults()
  with config.unlocked():
    config.name = f"wmt{year} {source}-{target}"
    common.from_published(config, teacher=args.options.teacher, student=args.options.student)
    config.data.update(
        source="tfds",
        tfds_name=f"wmt{year}_translate/{other}-en",
        source_field=source,
        target_field=target,
        task=f"translate {LANGUAGES[source]} to {LANGUAGES[target]}",
        num_train=0,
        num_validation=1000,
        num_test=0,
        buckets=((32, 32), (64, 64), (128, 128)),
    )
    config.decode.max_length = 128
    if args.options.languages:
      config.data.task = ""
      names = _names(args.options.languages)
      config.tokenizer.source_language, config.tokenizer.target_language = names
    if args.mode == "smoke":
      common.shrink_published(config)
    objectives.use(config, args.options.objective)
  return config


def _languages(pair):
  parts = tuple(pair.split("-"))
  if len(parts) != 2 or set(parts) - set(LANGUAGES) or parts.count("en") != 1:
    raise ValueError(
        f"config argument pair={pair!r}: must be two of {', '.join(LANGUAGES)}, one "
        "of them en, e.g. en-de"
    )
  return parts


def _names(languages):
  source, between, target = languages.partition("/")
  if not between:
    raise ValueError(
        f"config argument languages={languages!r}: must be source/target, e.g. eng_Latn/deu_Latn"
    )
  return source, target
