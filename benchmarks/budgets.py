"""Use of the teacher against the budget, for every form of a budget, at home and elsewhere.

    python -m benchmarks.budgets --workdir=runs/m30k-0 --emails=DIR --texts=captions.txt \
        --out=FILE.json

The pair of a workdir writes for its test set, for two of its test texts joined (longer than any in
training), for sentences and subject lines of e-mails (`--emails`, a folder with AESLC's
`test.jsonl`), and for other texts, one per line (`--texts`). Budgets that training stated, and
others, are stated in wordings of training and in others. Validation sets the pace of each form and
the shortest length that an output is expected to have. `budget_tables.py` makes tables of the file.
"""

from collections.abc import Iterator
import dataclasses
import functools
import itertools
import logging
from pathlib import Path
import re

from absl import app, flags
import jax
import ml_collections
import numpy as np
from rich.console import Console

from kdtw_jax import data, decoding
from kdtw_jax.data.example import InMemorySource
from kdtw_jax.data.json_lines import open_json_lines
from kdtw_jax.data.lines import read_lines
from kdtw_jax.evaluation import metrics
from kdtw_jax.evaluation.pacing import PACED_BY, PACED_FORMS, choose_pace
from kdtw_jax.evaluation.promises import broken, spent
from kdtw_jax.files import write_json
from kdtw_jax.pair import load_pair

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of a finished run", required=True)
_TEXTS = flags.DEFINE_multi_string("texts", [], "File of other texts, one per line; may repeat")
_EMAILS = flags.DEFINE_string("emails", None, "Folder with AESLC's test.jsonl")
_SENTENCES = flags.DEFINE_integer("sentences", 500, "Most texts of a domain; 0: all")
_BUDGETS = flags.DEFINE_list(
    "budgets", ["5", "7", "10", "15", "20", "25", "30", "40", "50"], "Budgets in percent"
)
_FORMS = flags.DEFINE_list("forms", list(decoding.FORMS), "Forms of a budget")
_POLICY = flags.DEFINE_string("policy", "handover", "Who asks")
_DIAL = flags.DEFINE_float("dial", None, "The policy's dial")
_PACES = flags.DEFINE_list(
    "paces", ["0.5", "1", "2", "4", "8", "16"], "Paces that validation tries"
)
_QUANTILE = flags.DEFINE_float("quantile", 0.2, "Share of references below the shortest length")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the choice of e-mail sentences")
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures", required=True)

LENGTHS = (10, 14)  # outputs on which `hard` must spend most of what it may


# Texts --------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Domain:
  """Texts to write for.

  Attributes:
    name: its name in the tables.
    source: the texts.
    scored: True if the targets are references.
    parts: how many texts of the usual length one text is as long as.
  """

  name: str
  source: data.Source
  scored: bool = False
  parts: int = 1


def plain(texts: list[str]) -> InMemorySource:
  """Makes a source of texts without references."""
  return InMemorySource([(text, text) for text in texts])


def email_texts(folder: str, seed: int, limit: int) -> tuple[list[str], list[str]]:
  """Draws sentences of e-mail bodies and subject lines, each once.

  Args:
    folder: holds `test.jsonl` with the fields email_body and subject_line.
    seed: seed of the draw.
    limit: most texts of each kind; 0 takes all.

  Returns:
    Sentences of 5 to 25 words, begun by a capital and ended by a mark; subjects of 3 to 12 words.
  """
  emails = open_json_lines(folder, "test", source_field="email_body", target_field="subject_line")
  found = [emails[i] for i in range(len(emails))]
  pieces = (re.split(r"(?<=[.!?])\s+|\n", email.source) for email in found)
  sentences = {" ".join(piece.split()) for piece in itertools.chain.from_iterable(pieces)}
  whole = [text for text in sentences if re.fullmatch(r"[A-Z][\w ,;:'()/&$%-]*[.!?]", text)]
  rng = np.random.default_rng(seed)

  def draw(texts, fewest, most):
    kept = sorted(text for text in texts if fewest <= len(text.split()) <= most)
    return [kept[i] for i in rng.permutation(len(kept))[: limit or None]]

  return draw(whole, 5, 25), draw({email.target.strip() for email in found}, 3, 12)


def domains(config: ml_collections.ConfigDict, test: data.Source) -> list[Domain]:
  """Returns the test set, longer texts made of it, and texts of other kinds."""
  limit = _SENTENCES.value
  found = [
      Domain("test set", test, scored=True),
      Domain("two texts joined", data.JoinedSource(test, 2), scored=True, parts=2),
  ]
  if _EMAILS.value:
    kinds = ("e-mail sentences", "e-mail subjects")
    texts = email_texts(_EMAILS.value, _SEED.value, limit)
    found += [Domain(kind, plain(own)) for kind, own in zip(kinds, texts, strict=True)]
  for path in _TEXTS.value:
    lines = [line for line in read_lines(path, expected="--texts names it") if line.strip()]
    found.append(Domain(Path(path).stem, plain(lines[: limit or None])))
  return found


# Measurement --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Written:
  """What a pair wrote for the texts of a domain, `[N]` each: texts, lengths, calls, violations."""

  texts: list[str]
  length: np.ndarray
  calls: np.ndarray
  broken: np.ndarray

  @property
  def use(self) -> float:
    """Calls per output token, both summed over all texts."""
    return float(self.calls.sum() / max(self.length.sum(), 1))


class Bench:
  """A trained pair that writes under budgets of any form."""

  def __init__(self, workdir: Path):
    self.pair = load_pair(workdir)
    self.config = ml_collections.ConfigDict(self.pair.config)
    self.test, self.validation = (
        data.load_split(self.config.data, split) for split in ("test", "validation")
    )
    self.prompt_length = data.instruction_length(self.pair.tokenizer, self.config)
    self.policy = decoding.make_policy(_POLICY.value, _DIAL.value)
    self.paces, self.shortest, self.mean_length = {}, (0.0, 0.0), 0.0
    student, teacher = self.pair.student.decoder_fns, self.pair.teacher.decoder_fns

    def decode(params, batch, budget, policy, max_length):
      return decoding.decode(
          student,
          teacher,
          *params,
          batch.student_source,
          batch.teacher_source,
          budget,
          jax.random.key(0),
          policy,
          max_length=max_length,
          eager=True,
      )

    self._decode = jax.jit(decode, static_argnames="max_length")

  @functools.cache  # noqa: B019  one bench per run
  def tokenised(self, domain: Domain) -> data.TokenisedSplit:
    """Tokenises the first texts of a domain."""
    source, target = self.config.data.buckets[-1]
    number = min(len(domain.source), _SENTENCES.value or len(domain.source))
    rows = [domain.source[i] for i in range(number)]
    return data.tokenise(
        InMemorySource([(row.source, *row.references) for row in rows]),
        self.pair.tokenizer,
        buckets=((source * domain.parts, target * domain.parts),),
        over_long="truncate",
        task=self.config.data.task,
    )

  def num_calls(self, share: float) -> int:
    """Returns the calls that a share allows in an output of mean length, at least 1."""
    return max(1, round(share * self.mean_length))

  def budget(self, form: str, share: float, rows: int) -> decoding.Budget:
    """Makes a budget; `calls` allows what the share allows in an output of mean length."""
    return decoding.Budget(
        share=np.full(rows, share, np.float32),
        form=form,
        pace=np.float32(self.paces.get(form, 0.0)),
        shortest=tuple(map(np.float32, self.shortest)),
        calls=np.full(rows, self.num_calls(share), np.int32),
        credit=np.int32(0),
    )

  def write(
      self,
      domain: Domain,
      form: str,
      share: float,
      wording: data.Wording,
      policy: decoding.Policy | None = None,
  ) -> Written:
    """Writes for a domain; the texts of a ledger or under a pace are one stream, in their order."""
    policy, size = policy or self.policy, self.config.evaluation.batch_size
    parts, credit = [], np.int32(0)
    for batch in data.eval_batches(
        self.tokenised(domain),
        self.pair.tokenizer,
        batch_size=size,
        budget=share,
        wording=wording,
        prompt_length=self.prompt_length,
        by_length=form not in decoding.STREAMS,
    ):
      budget = self.budget(form, share, size).replace(credit=credit)
      params = (self.pair.student_params, self.pair.teacher_params)
      longest = self.config.decode.max_length * domain.parts
      result = self._decode(params, batch, budget, policy, longest)
      credit = result.credit
      columns = (np.asarray(result.length), spent(policy, result), broken(budget, policy, result))
      parts.append((batch.example_id, np.asarray(result.tokens), *columns))
    ids, tokens, *columns = map(np.concatenate, zip(*parts, strict=True))
    order = np.argsort(ids, kind="stable")[np.sum(ids < 0) :]
    lengths = columns[0]
    texts = [self.pair.tokenizer.decode(tokens[i, : lengths[i]].tolist()) for i in order]
    return Written(texts, *(column[order] for column in columns))

  def scores(self, domain: Domain, written: Written) -> dict[str, float]:
    """Scores texts; {} for a domain without references."""
    if not domain.scored:
      return {}
    kept = self.tokenised(domain).example_id.tolist()
    references = [domain.source[i].references for i in kept]
    return metrics.corpus_scores(written.texts, references, metric=self.config.evaluation.metric)

  def set_on_validation(self) -> None:
    """Sets the shortest lengths, the mean length, and the pace of each form."""
    domain = Domain("validation", self.validation, scored=True)
    wording, key = data.TRAIN_WORDINGS[0], metrics.primary_score(self.config.evaluation.metric)
    self.mean_length = float(self.write(domain, "share", PACED_BY, wording).length.mean())
    self.shortest = data.shortest_output(
        self.tokenised(domain), self.pair.tokenizer, _QUANTILE.value
    )

    def try_pace(form: str, pace: float) -> tuple[float, float]:
      self.paces[form] = pace
      written = self.write(domain, form, PACED_BY, wording)
      return written.use, self.scores(domain, written)[key]

    paces = tuple(map(float, _PACES.value))
    for form in filter(_FORMS.value.__contains__, PACED_FORMS):
      self.paces[form] = choose_pace(paces, PACED_BY, functools.partial(try_pace, form))


def measure(bench: Bench) -> Iterator[dict]:
  """Yields a row for every form, budget and wording in every domain."""
  trained = {round(b, 4) for b in bench.config.budgets.train}
  for domain in domains(bench.config, bench.test):
    for who in ("student", "teacher"):
      policy = decoding.make_policy(who)
      alone = bench.write(domain, "share", 0.0, data.TRAIN_WORDINGS[0], policy)
      yield {"domain": domain.name, "form": f"{who} alone", **bench.scores(domain, alone)}
    for form, (i, percent), new in itertools.product(
        _FORMS.value, enumerate(map(float, _BUDGETS.value)), (False, True)
    ):
      share, wordings = percent / 100, data.HELD_OUT_WORDINGS if new else data.TRAIN_WORDINGS
      if share > max(trained):
        continue
      written = bench.write(domain, form, share, wordings[i % len(wordings)])
      yield {
          "domain": domain.name,
          "form": form,
          "budget": share,
          "budget_seen": round(share, 4) in trained,
          "wording_seen": not new,
          "calls_allowed": bench.num_calls(share) if form == "calls" else None,
          **figures(written, share),
          **bench.scores(domain, written),
      }


def figures(written: Written, share: float) -> dict:
  """Returns use, share of outputs above the budget, lengths, and what typical outputs spent."""
  allowed = np.floor(share * written.length + 1e-6)
  typical = (written.length >= LENGTHS[0]) & (written.length <= LENGTHS[1])
  return {
      "use": written.use,
      "above": float(np.mean(written.calls > share * written.length + 1e-6)),
      "length": float(written.length.mean()),
      "outputs": len(written.texts),
      "violations": int(written.broken.sum()),
      "typical_allowed": int(allowed[typical].sum()),
      "typical_spent": int(written.calls[typical].sum()),
  }


def main(argv):
  """Measures, prints and writes the figures."""
  del argv
  logging.getLogger("absl").setLevel(logging.WARNING)  # orbax logs there
  bench, console = Bench(Path(_WORKDIR.value)), Console(width=140)
  bench.set_on_validation()
  report = {
      "workdir": Path(_WORKDIR.value).name,
      "policy": bench.policy.name,
      "metric": metrics.primary_score(bench.config.evaluation.metric),
      "paces": bench.paces,
      "shortest": bench.shortest,
      "rows": [],
  }
  for row in measure(bench):
    report["rows"].append(row)
    console.print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})
    write_json(_OUT.value, report)


if __name__ == "__main__":
  app.run(main)
