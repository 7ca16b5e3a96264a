"""The phrasebook: pure function of (seed, split, number), disjoint splits, Zipf, correct German."""

import collections
import re

import pytest

from kdtw_jax.data.phrasebook import PhrasebookSource, lexicon
from kdtw_jax.data.phrasebook.frames import FRAMES
from kdtw_jax.data.phrasebook.slots import make_slots

SPLITS = ("train", "validation", "test")
SLOT = re.compile(r"\{\w+\}")


@pytest.fixture(scope="module")
def phrases():
  sources = {split: PhrasebookSource(split, size=3000, seed=0) for split in SPLITS}
  return {split: [source[i] for i in range(3000)] for split, source in sources.items()}


def test_a_phrase_depends_on_seed_split_and_number_only(phrases):
  longer = PhrasebookSource("train", size=10**9, seed=0)
  assert [longer[i] for i in (17, 3, 2999)] == [phrases["train"][i] for i in (17, 3, 2999)]
  other_seed = PhrasebookSource("train", size=100, seed=1)
  assert [other_seed[i].source for i in range(100)] != [e.source for e in phrases["train"][:100]]
  assert longer[10**9 - 1].target  # endless: no phrase is made before it is asked for


@pytest.mark.parametrize("side", ("source", "target"))
@pytest.mark.parametrize(
    "split, other", (("train", "validation"), ("train", "test"), ("validation", "test"))
)
def test_splits_share_no_sentence(phrases, side, split, other):
  sentences, others = ({getattr(e, side) for e in phrases[s]} for s in (split, other))
  assert not sentences & others
  assert len(sentences) > 2700  # and a split hardly repeats itself


def test_splits_stay_disjoint_across_seeds(phrases):
  test = PhrasebookSource("test", size=3000, seed=7)
  assert not {e.source for e in phrases["train"]} & {test[i].source for i in range(3000)}


def test_translation_is_one_to_one(phrases):
  examples = [example for split in SPLITS for example in phrases[split]]
  targets = {example.source: example.target for example in examples}
  assert all(targets[example.source] == example.target for example in examples)
  assert len(set(targets.values())) == len(targets)


def test_names_are_drawn_by_zipfs_law_from_one_lexicon_for_all_splits(phrases):
  counts = {
      split: collections.Counter(
          tag[1:] for example in phrases[split] for tag in example.tags if tag[0] == "territory"
      )
      for split in SPLITS
  }
  for counter in counts.values():
    total = sum(counter.values())
    head = sum(n for (_, frequency), n in counter.items() if frequency == "head")
    assert 0.45 < head / total < 0.65
    num_head = sum(frequency == "head" for _, frequency in counter)
    assert num_head < 15 < 100 < len(counter)
    top = counter.most_common(1)[0]
    assert 0.12 < top[1] / total < 0.24  # 1 / H_194 = 0.17
  frequencies = [dict(counter) for counter in counts.values()]
  assert len({next(iter(f)) for f in map(_most_common, frequencies)}) == 1
  frequency_of = {}
  for counter in counts.values():
    for surface, frequency in counter:
      assert frequency_of.setdefault(surface, frequency) == frequency


def _most_common(counts):
  return [max(counts, key=counts.get)]


def test_the_seed_permutes_which_names_are_frequent():
  tops = {lexicon.ZipfLexicon(lexicon.territories(), seed).names[0].code for seed in range(5)}
  assert len(tops) > 1


def test_tags_are_the_surfaces_in_the_target(phrases):
  kinds = collections.Counter()
  for example in phrases["train"]:
    assert example.tags
    for kind, surface, frequency in example.tags:
      assert surface in example.target
      assert frequency in ("head", "tail", "open")
      kinds[kind, frequency == "open"] += 1
  named = {"territory", "language", "person", "number_word", "currency", "unit"}
  ruled = {"date", "time", "relative_time", "number", "percent", "price", "weekday", "month"}
  assert set(kinds) == {(kind, False) for kind in named} | {(kind, True) for kind in ruled}


def test_sentences_are_short_lines_of_plain_spaces(phrases):
  for example in phrases["train"]:
    for sentence in (example.source, example.target):
      assert 4 <= len(sentence.split()) <= 17
      assert not set("\n\xa0\u202f{}") & set(sentence)
      assert sentence[-1] in ".?"


def test_frames_use_the_same_known_slots_on_both_sides():
  kinds = set(make_slots(0))
  assert len(FRAMES) >= 40
  assert len(set(FRAMES)) == len({s for s, _ in FRAMES}) == len({t for _, t in FRAMES})
  used = set()
  for source, target in FRAMES:
    slots = SLOT.findall(source)
    assert sorted(slots) == sorted(SLOT.findall(target))
    assert 1 <= len(slots) <= 4 and len(set(slots)) == len(slots)
    used |= {slot.strip("{}").rstrip("2") for slot in slots}
  assert used == kinds


@pytest.mark.parametrize(
    "kind, value, source, target",
    (
        ("territory", ("MZ",), "Mozambique", "Mosambik"),
        ("language", ("sw",), "Swahili", "Suaheli"),
        ("money", (1200, "NOK"), "1,200 Norwegian kroner", "1.200 norwegische Kronen"),
        ("money", (7, "CHF"), "7 Swiss francs", "7 Schweizer Franken"),
        ("length", (12, "length-nautical-mile"), "12 nautical miles", "12 Seemeilen"),
        ("date", (738_643,), "May 3, 2023", "3. Mai 2023"),
        ("time", (15, 5), "3:05 PM", "15:05"),
        ("time", (0, 30), "12:30 AM", "00:30"),
        ("ago", (14, "day"), "14 days ago", "vor 14 Tagen"),
        ("ahead", (3, "week"), "in 3 weeks", "in 3 Wochen"),
        ("number", (1234.5,), "1,234.5", "1.234,5"),
        ("percent", (125,), "12.5%", "12,5 %"),
        ("percent", (120,), "12%", "12 %"),
        ("price", (1234.5, "EUR"), "€1,234.50", "1.234,50 €"),
        ("number_word", ("five",), "five", "fünf"),
        ("weekday", (2,), "Wednesday", "Mittwoch"),
        ("month", (2,), "March", "März"),
    ),
)
def test_golden_fillers(kind, value, source, target):
  filler = make_slots(0)[kind].word(value)
  assert (filler.source, filler.target) == (source, target)


@pytest.mark.parametrize(
    "source, target",
    (
        (
            "On Monday we fly from Latvia to Kenya.",
            "Am Montag fliegen wir von Lettland nach Kenia.",
        ),
        (
            "If you travel to Japan, you should learn Welsh.",
            "Wenn Sie nach Japan reisen, sollten Sie Walisisch lernen.",
        ),
        (
            "Paul lost 40 Danish kroner on the way to Norway.",
            "Paul hat auf dem Weg nach Norwegen 40 dänische Kronen verloren.",
        ),
        (
            "The bridge is 7 miles long and 3 feet wide.",
            "Die Brücke ist 7 Meilen lang und 3 Fuß breit.",
        ),
    ),
)
def test_golden_sentences(source, target):
  values = {
      "weekday": (0,),
      "territory": ("LV",),
      "territory2": ("KE",),
      "language": ("cy",),
      "person": ("Paul",),
      "money": (40, "DKK"),
      "length": (7, "length-mile"),
      "length2": (3, "length-foot"),
  }
  if "Japan" in source:
    values["territory"] = ("JP",)
  if "Norway" in source:
    values["territory"] = ("NO",)
  slots = make_slots(0)
  words = {name: slots[name.rstrip("2")].word(value) for name, value in values.items()}
  made = set()
  for frame, german in FRAMES:
    if all(slot.strip("{}") in values for slot in SLOT.findall(frame)):
      made.add(
          (
              frame.format_map({name: word.source for name, word in words.items()}),
              german.format_map({name: word.target for name, word in words.items()}),
          )
      )
  assert (source, target) in made


def test_no_german_name_needs_an_article():
  codes = {name.code for name in lexicon.territories()}
  assert len(codes) > 150
  # die Schweiz, die Türkei, die Ukraine, die USA, die Niederlande, der Iran, die Slowakei
  assert not codes & {"CH", "TR", "UA", "US", "NL", "IR", "SK", "AE", "PH", "CF", "BS", "ZZ"}
  for name in lexicon.territories():
    assert not re.search(r"[Ii]nseln?\b|Staaten|Republik\b|\(", name.target), name


def test_names_are_unique_and_currencies_read_as_in_a_sentence():
  families = [
      lexicon.territories(),
      lexicon.languages(),
      lexicon.currencies(),
      lexicon.people(),
      *map(lexicon.units, lexicon.MEASURES),
  ]
  for names in families:
    assert len(names) == len({n.code for n in names})
    assert len(names) == len({n.source for n in names}) == len({n.target for n in names})
  for name in lexicon.currencies():
    first, _, rest = name.target.partition(" ")
    assert not rest or first[0].islower() or first in ("Schweizer", "Renminbi"), name


def test_bad_arguments():
  with pytest.raises(ValueError, match=r"config\.data\.num_test=0.*endless"):
    PhrasebookSource("test", size=0, seed=0)
  with pytest.raises(ValueError, match="'dev': must be one of train, validation, test"):
    PhrasebookSource("dev", size=1, seed=0)
