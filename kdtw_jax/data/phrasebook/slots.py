"""Kinds of slots: how a filler is drawn, and its wording in both languages.

A drawn value is a small tuple of plain values that identifies the filler; its wording is made only
if the sentence is kept.
"""

from collections.abc import Callable
import datetime
import math
import random
from typing import Any, NamedTuple

from babel.dates import format_date, format_time, format_timedelta
from babel.numbers import format_currency, format_decimal, format_percent

from kdtw_jax.data.example import Tag
from kdtw_jax.data.phrasebook import lexicon
from kdtw_jax.data.phrasebook.lexicon import ENGLISH, GERMAN, Name, ZipfLexicon, plain_spaces

OPEN = "open"  # frequency of a filler that is made by rule, not drawn by Zipf's law

_FIRST_DAY = datetime.date(1950, 1, 1).toordinal()
_NUM_DAYS = 100 * 365
_DAYS_PER = {"day": 1, "week": 7, "month": 30, "year": 365}


class Filler(NamedTuple):
  """The wording of a slot's filler, and tags of its parts."""

  source: str
  target: str
  tags: tuple[Tag, ...]


class Slot(NamedTuple):
  """A kind of slot.

  Attributes:
    draw: `(rng) -> value`; the value is a tuple of plain values.
    word: `(value) -> Filler`.
  """

  draw: Callable[[random.Random], tuple[Any, ...]]
  word: Callable[[tuple[Any, ...]], Filler]


def make_slots(seed: int) -> dict[str, Slot]:
  """Makes all kinds of slots.

  Args:
    seed: seed of every lexicon's order of frequency.

  Returns:
    The slots by the names that frames use.
  """
  slots = {
      "territory": _name_slot("territory", lexicon.territories(), seed),
      "language": _name_slot("language", lexicon.languages(), seed + 1),
      "person": _name_slot("person", lexicon.people(), seed + 2),
      "number_word": _name_slot("number_word", lexicon.number_words(), seed + 3),
      "weekday": _uniform_slot("weekday", lexicon.weekdays()),
      "month": _uniform_slot("month", lexicon.months()),
      "money": _amount_slot("currency", lexicon.currencies(), seed + 4, largest=5000),
      "date": _rule_slot("date", _draw_date, _word_date),
      "time": _rule_slot("time", _draw_time, _word_time),
      "ago": _rule_slot("relative_time", _draw_span, _word_ago),
      "ahead": _rule_slot("relative_time", _draw_near_span, _word_ahead),
      "count": _rule_slot("number", _draw_count, _word_number),
      "number": _rule_slot("number", _draw_number, _word_number),
      "percent": _rule_slot("percent", _draw_percent, _word_percent),
      "price": _rule_slot("price", _draw_price, _word_price),
  }
  for offset, measure in enumerate(lexicon.MEASURES, start=5):
    names = lexicon.units(measure)
    slots[measure] = _amount_slot("unit", names, seed + offset, largest=90)
  return slots


def _name_slot(kind: str, names: tuple[Name, ...], seed: int) -> Slot:
  words = ZipfLexicon(names, seed)
  position = {name.code: i for i, name in enumerate(words.names)}

  def draw(rng: random.Random) -> tuple[str]:
    return (words.names[words.draw(rng)].code,)

  def word(value: tuple[str]) -> Filler:
    i = position[value[0]]
    name = words.names[i]
    return Filler(name.source, name.target, ((kind, name.target, words.frequency(i)),))

  return Slot(draw, word)


def _uniform_slot(kind: str, names: tuple[Name, ...]) -> Slot:
  def word(value: tuple[int]) -> Filler:
    name = names[value[0]]
    return Filler(name.source, name.target, ((kind, name.target, OPEN),))

  return Slot(lambda rng: (rng.randrange(len(names)),), word)


def _amount_slot(kind: str, names: tuple[Name, ...], seed: int, *, largest: int) -> Slot:
  """Makes a slot of a whole number of at least 2 and the plural of a unit or currency."""
  unit = _name_slot(kind, names, seed)

  def draw(rng: random.Random) -> tuple[int, str]:
    return _log_uniform(rng, 2, largest), unit.draw(rng)[0]

  def word(value: tuple[int, str]) -> Filler:
    number, name = _word_number(value[:1]), unit.word(value[1:])
    return Filler(
        f"{number[0]} {name.source}",
        f"{number[1]} {name.target}",
        (("number", number[1], OPEN), *name.tags),
    )

  return Slot(draw, word)


def _rule_slot(
    kind: str,
    draw: Callable[[random.Random], tuple[Any, ...]],
    sides: Callable[[tuple[Any, ...]], tuple[str, str]],
) -> Slot:
  def word(value: tuple[Any, ...]) -> Filler:
    source, target = map(plain_spaces, sides(value))
    return Filler(source, target, ((kind, target, OPEN),))

  return Slot(draw, word)


def _log_uniform(rng: random.Random, smallest: int, largest: int) -> int:
  return int(math.exp(rng.uniform(math.log(smallest), math.log(largest + 1))))


def _draw_date(rng: random.Random) -> tuple[int]:
  return (_FIRST_DAY + rng.randrange(_NUM_DAYS),)


def _word_date(value: tuple[int]) -> tuple[str, str]:
  day = datetime.date.fromordinal(value[0])
  return format_date(day, "long", ENGLISH), format_date(day, "long", GERMAN)


def _draw_time(rng: random.Random) -> tuple[int, int]:
  return rng.randrange(24), 5 * rng.randrange(12)


def _word_time(value: tuple[int, int]) -> tuple[str, str]:
  time = datetime.time(*value)
  return format_time(time, "short", locale=ENGLISH), format_time(time, "short", locale=GERMAN)


def _draw_span(rng: random.Random) -> tuple[int, str]:
  return rng.randrange(2, 21), rng.choice(tuple(_DAYS_PER))


def _draw_near_span(rng: random.Random) -> tuple[int, str]:
  return rng.randrange(2, 21), rng.choice(("day", "week", "month"))


def _word_ago(value: tuple[int, str]) -> tuple[str, str]:
  return _word_span(-value[0], value[1])


def _word_ahead(value: tuple[int, str]) -> tuple[str, str]:
  return _word_span(value[0], value[1])


def _word_span(number: int, unit: Any) -> tuple[str, str]:
  span = datetime.timedelta(days=number * _DAYS_PER[unit])
  source, target = (
      # No larger unit reaches this threshold, so "in 14 days" is not turned into weeks.
      format_timedelta(span, granularity=unit, threshold=1e9, add_direction=True, locale=locale)
      for locale in (ENGLISH, GERMAN)
  )
  return source, target


def _draw_count(rng: random.Random) -> tuple[int]:
  return (_log_uniform(rng, 2, 20_000),)


def _draw_number(rng: random.Random) -> tuple[float]:
  return (_log_uniform(rng, 20, 1_000_000) / 10,)


def _word_number(value: tuple[int | float]) -> tuple[str, str]:
  return format_decimal(value[0], locale=ENGLISH), format_decimal(value[0], locale=GERMAN)


def _draw_percent(rng: random.Random) -> tuple[int]:
  return (rng.randrange(15, 999),)


def _word_percent(value: tuple[int]) -> tuple[str, str]:
  share = value[0] / 1000
  return (
      format_percent(share, "#,##0.#%", locale=ENGLISH),
      format_percent(share, "#,##0.# %", locale=GERMAN),
  )


def _draw_price(rng: random.Random) -> tuple[float, str]:
  return _log_uniform(rng, 20, 20_000) / 20, rng.choice(("EUR", "USD", "GBP"))


def _word_price(value: tuple[float, str]) -> tuple[str, str]:
  amount, currency = value
  return format_currency(amount, currency, locale=ENGLISH), format_currency(
      amount, currency, locale=GERMAN
  )
