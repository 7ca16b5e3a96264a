"""Names in two languages from CLDR, with frequencies: territories, languages, currencies, units.

It uses only names that take neither article nor inflection in German after "aus", "nach" or "auf",
so that a name fits into a sentence unchanged. A seeded permutation sets the order of frequency, so
rare names are not rare in the world. Data: https://cldr.unicode.org through Babel.
"""

import bisect
from collections.abc import Iterable, Sequence
import functools
import itertools
import random
import re
from typing import NamedTuple

from babel import Locale
from babel.numbers import get_currency_name, get_territory_currencies
from babel.units import format_unit

ENGLISH, GERMAN = Locale("en"), Locale("de")

# German needs an article here ("aus der Schweiz"), or the name is not a place to travel to.
_NO_TERRITORY = frozenset(
    "AE AQ BQ BS CF CH DG DO EH EU EZ FO GB IM IQ IR KM LB MD MN MP MV NE NL PH PS QO SB SC SD SJ "
    "SK SN SS TD TF TR UA UM UN US VA VC XA XB XK YE ZZ".split()
)
_NO_TERRITORY_WORD = re.compile(r"[Ii]nsel|Sonderverwaltungsregion|Territorium")
_GERMAN_WORD = re.compile(r"[^\W\d_]+(-[^\W\d_]+)?")
_GERMAN_ADJECTIVE = re.compile(r"\S+sche ")
# The German name for several units of these currencies is a singular or too wordy.
_NO_CURRENCY = frozenset("BAM PGK TWD XCG ZWG".split())

_UNITS = {
    "length": (
        "meter kilometer centimeter millimeter inch foot yard mile nautical-mile decimeter "
        "fathom furlong"
    ),
    "mass": "kilogram gram tonne pound ounce milligram carat stone ounce-troy grain",
    "duration": "minute hour day week month year second decade",
    "volume": (
        "liter milliliter gallon cup barrel pint teaspoon tablespoon cubic-meter hectoliter "
        "centiliter deciliter quart bushel fluid-ounce"
    ),
    "area": (
        "square-meter hectare square-kilometer acre square-mile square-foot square-yard "
        "square-centimeter square-inch"
    ),
    "temperature": "celsius fahrenheit kelvin",
    "speed": "kilometer-per-hour mile-per-hour meter-per-second knot",
    "digital": "megabyte gigabyte kilobyte terabyte byte bit petabyte megabit gigabit kilobit",
    "power": "watt kilowatt megawatt horsepower gigawatt",
    "energy": "kilowatt-hour joule kilojoule calorie kilocalorie",
}
MEASURES = tuple(_UNITS)

_PEOPLE = (
    "Anna Paul Maria Lukas Sophie Felix Laura Jonas Clara Simon Julia Martin Emma Thomas Lena Max "
    "Nina David Eva Oskar Ida Robert Marta Viktor"
).split()

_NUMBER_WORDS = {
    "two": "zwei",
    "three": "drei",
    "four": "vier",
    "five": "fünf",
    "six": "sechs",
    "seven": "sieben",
    "eight": "acht",
    "nine": "neun",
    "ten": "zehn",
    "eleven": "elf",
    "twelve": "zwölf",
    "thirteen": "dreizehn",
    "fourteen": "vierzehn",
    "fifteen": "fünfzehn",
    "sixteen": "sechzehn",
    "seventeen": "siebzehn",
    "eighteen": "achtzehn",
    "nineteen": "neunzehn",
    "twenty": "zwanzig",
    "thirty": "dreißig",
    "forty": "vierzig",
    "fifty": "fünfzig",
}


class Name(NamedTuple):
  """A name in both languages under a stable code."""

  code: str
  source: str
  target: str


class ZipfLexicon:
  """Names of one kind, of which the k-th most frequent is drawn with probability 1 / (k H_n).

  Attributes:
    names: a seeded permutation of the given names, by falling frequency.
    num_head: number of most frequent names that together make up at least half of all draws.
  """

  def __init__(self, names: Sequence[Name], seed: int):
    """Makes a lexicon of names that all differ in code and in both surfaces."""
    self.names = tuple(random.Random(seed).sample(sorted(names), len(names)))
    weights = list(itertools.accumulate(1.0 / rank for rank in range(1, len(names) + 1)))
    self._cumulative = [weight / weights[-1] for weight in weights]
    self.num_head = bisect.bisect_left(self._cumulative, 0.5) + 1

  def draw(self, rng: random.Random) -> int:
    """Draws the position of a name in `names`."""
    return min(bisect.bisect(self._cumulative, rng.random()), len(self.names) - 1)

  def frequency(self, position: int) -> str:
    """Returns "head" or "tail"."""
    return "head" if position < self.num_head else "tail"


def plain_spaces(text: str) -> str:
  """Replaces CLDR's no-break spaces by spaces."""
  return text.replace("\xa0", " ").replace("\u202f", " ")


@functools.cache
def territories() -> tuple[Name, ...]:
  """Returns countries and islands, e.g. Mozambique, Mosambik."""
  return _unique(
      Name(code, ENGLISH.territories[code].replace("&", "and"), name)
      for code, name in GERMAN.territories.items()
      if re.fullmatch("[A-Z]{2}", code)
      and code in ENGLISH.territories
      and code not in _NO_TERRITORY
      and not _NO_TERRITORY_WORD.search(name)
      and "(" not in name + ENGLISH.territories[code]
  )


@functools.cache
def languages() -> tuple[Name, ...]:
  """Returns languages with a two-letter code, e.g. Swahili, Suaheli."""
  return _unique(
      Name(code, ENGLISH.languages[code], name)
      for code, name in GERMAN.languages.items()
      if re.fullmatch("[a-z]{2}", code)
      and code in ENGLISH.languages
      and _GERMAN_WORD.fullmatch(name)
      and "(" not in ENGLISH.languages[code]
  )


@functools.cache
def currencies() -> tuple[Name, ...]:
  """Returns the plurals of the currencies in use, e.g. Norwegian kroner, norwegische Kronen."""
  codes = {code for name in territories() for code in get_territory_currencies(name.code)}
  found = []
  for code in sorted(codes - _NO_CURRENCY):
    source = get_currency_name(code, 5, ENGLISH).replace("&", "and")
    target = get_currency_name(code, 5, GERMAN)
    if _GERMAN_ADJECTIVE.match(target):
      target = target[0].lower() + target[1:]
    if "(" not in source + target and code not in (source, target):
      found.append(Name(code, source, target))
  return _unique(found)


@functools.cache
def units(measure: str) -> tuple[Name, ...]:
  """Returns the plurals of a measure's units, e.g. nautical miles, Seemeilen for "length"."""
  found = []
  for unit in _UNITS[measure].split():
    code = f"{measure}-{unit}"
    sides = [plain_spaces(format_unit(5, code, "long", locale=loc)) for loc in (ENGLISH, GERMAN)]
    if all(side.startswith("5 ") for side in sides):
      found.append(Name(code, sides[0][2:], sides[1][2:]))
  return _unique(found)


@functools.cache
def people() -> tuple[Name, ...]:
  """Returns first names, the same in both languages."""
  return tuple(Name(name, name, name) for name in _PEOPLE)


@functools.cache
def number_words() -> tuple[Name, ...]:
  """Returns numbers in words, listed here because Babel lacks CLDR's spelling rules."""
  return tuple(Name(source, source, target) for source, target in _NUMBER_WORDS.items())


@functools.cache
def weekdays() -> tuple[Name, ...]:
  """Returns Monday .. Sunday."""
  sides = [locale.days["format"]["wide"] for locale in (ENGLISH, GERMAN)]
  return tuple(Name(f"weekday-{i}", sides[0][i], sides[1][i]) for i in range(7))


@functools.cache
def months() -> tuple[Name, ...]:
  """Returns January .. December."""
  sides = [locale.months["format"]["wide"] for locale in (ENGLISH, GERMAN)]
  return tuple(Name(f"month-{i}", sides[0][i], sides[1][i]) for i in range(1, 13))


def _unique(names: Iterable[Name]) -> tuple[Name, ...]:
  """Keeps names whose surface is unique in both languages, so that translation is one to one."""
  ordered = sorted(names)
  kept, sources, targets = [], set(), set()
  for name in ordered:
    if name.source not in sources and name.target not in targets:
      kept.append(name)
      sources.add(name.source)
      targets.add(name.target)
  return tuple(kept)
