"""What the page shows is what was written, whatever that is: nothing of it acts."""

from html import parser

import pytest

from kdtw_jax import decoding
from kdtw_jax.demo import markup
from kdtw_jax.demo.writing import Run
from kdtw_jax.live import Piece
from kdtw_jax.orders import Order
from kdtw_jax.reader import Written
from kdtw_jax.serving.lane import End

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</td></table><style>*{display:none}</style>",
    "${alert(1)} {{constructor}} `${1}` \\u003cb\\u003e &lt;b&gt; &#60;",
    "a\r\n\tb  c",
    "🙂 שלום \u202e",
]
ORDER = Order(None, 0, "share", decoding.StudentAlone())
TAGS = {"div", "p", "table", "thead", "tbody", "tr", "th", "td", "span"}


class Reading(parser.HTMLParser):
  """What a browser makes of a page: its tags, its text and who wrote which part."""

  def __init__(self, page):
    super().__init__()
    self.tags, self.text, self.parts, self._writer = set(), "", [], None
    self.feed(page)
    self.close()

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    self.tags.add(tag)
    assert attrs.keys() <= {"class", "title", "scope", "colspan", "dir", "role"}
    self._writer = attrs["class"] if tag == "span" else None

  def handle_endtag(self, tag):
    self._writer = None

  def handle_data(self, data):
    self.text += data
    if self._writer:
      self.parts.append((data, self._writer))


def run(*pieces, written=None, title="Method"):
  end = written and End(written, cut=False, read=5)
  return Run(title, ORDER, [Piece(*piece) for piece in pieces], end)


@pytest.mark.parametrize("text", HOSTILE)
def test_text_stays_text(text):
  for page in (markup.problem(text), markup.table([run((text, True), title=text)])):
    found = Reading(page)
    assert found.tags <= TAGS and text in found.text
    assert not {"$", "{", "}", "`", "\\"} & {*page}  # nothing for a template
  assert (text, "teacher") in Reading(markup.table([run((text, True))])).parts


def test_control_characters_are_shown():
  assert Reading(markup.problem("a\x00\x1b[31m\x7fb")).text == "a␀␛[31m␡b"


def test_parts_of_one_writer_are_together():
  parts = Reading(markup.table([run(("Der", False), (" Flug", False), (" aus", True))])).parts
  assert parts == [("Der Flug", "student"), (" aus", "teacher")]


def test_costs_come_with_the_end():
  written = Written("a b", ("▁a", "▁b", "</s>", "x"), (True, False, False, False), 3, 0.25, 1.234)
  ended, running = run(("a b", True), written=written), run(("a", True))
  assert "<td>3</td><td>75.0</td><td>25%</td><td>1.23</td>" in markup.table([ended])
  assert markup.table([running]).count("<td>…</td>") == 4
  assert "an empty output" in markup.table([run(written=written)])
