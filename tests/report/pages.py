"""A page, taken apart."""

from html.parser import HTMLParser
import json

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
  """Collects elements and text, and checks that tags nest."""

  def __init__(self, html):
    super().__init__()
    self.html = html
    self.elements, self.open, self.marked, self.text = [], [], [], []
    self.rows = []  # of all tables, each the texts of its cells
    self.feed(html)
    self.close()
    assert not self.open, f"unclosed: {self.open}"

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    if tag == "tr":
      self.rows.append([])
    if tag in {"th", "td"}:
      self.rows[-1].append("")
    if tag not in VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
    self.open.pop()

  def handle_data(self, data):
    if self.open[-1:] == ["script"]:
      return
    self.text.append(data)
    if {"th", "td"} & set(self.open):
      self.rows[-1][-1] += data
    if "mark" in self.open:
      self.marked.append(data)

  def ids(self, tag):
    return [attrs["id"] for name, attrs in self.elements if name == tag and "id" in attrs]

  def json(self, name):
    """The value that the script of that id holds."""
    start = self.html.index(">", self.html.index(f'id="{name}"')) + 1
    return json.loads(self.html[start : self.html.index("</script>", start)])
