"""CSV and TSV: as spreadsheets and pandas write them; every fault has its file, line and remedy."""

import csv
import logging

import pytest

from kdtw_jax import data
from tests.own_data import config_of, pairs_of
from tests.refusing import refused


def table(folder, content, kind="csv"):
  file = folder / f"train.{kind}"
  file.write_bytes(content if isinstance(content, bytes) else content.encode())
  return config_of(kind, file)


def pairs(config):
  return pairs_of(data.load_split(config, "train"))


def test_columns_are_found_by_name(tmp_path):
  config = table(tmp_path, "id,de,note,en\n1,Hund,x,dog\n2,Katze,y,cat\n")
  assert pairs(config) == [("dog", "Hund"), ("cat", "Katze")]


def test_what_is_quoted_may_hold_separators_line_ends_and_quotation_marks(tmp_path):
  content = 'en,de\r\n"a, b","c\r\nd\n\ne"\r\n"say ""no""",sag nein\r\n\r\n'
  assert pairs(table(tmp_path, content)) == [("a, b", "c\nd\n\ne"), ('say "no"', "sag nein")]
  content = 'en\tde\n"a\tb"\t"c\nd"\nit is 5" long, so\te,f\n'
  expected = [("a\tb", "c\nd"), ('it is 5" long, so', "e,f")]
  assert pairs(table(tmp_path, content, "tsv")) == expected


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
  assert pairs(table(tmp_path, b"\xef\xbb\xbfen,de\r\n\xc3\xa4,b\r\n")) == [("ä", "b")]
  assert pairs(table(tmp_path, b'\xef\xbb\xbf"en",de\na,b\n')) == [("a", "b")]


def test_blank_lines_and_the_end_of_the_last_line_do_not_count(tmp_path):
  assert pairs(table(tmp_path, "\n\nen,de\n\na,b\n  \nc,d")) == [("a", "b"), ("c", "d")]


def test_long_fields_are_read_and_the_limit_of_others_stays(tmp_path):
  usual = 131_072
  csv.field_size_limit(usual)
  assert pairs(table(tmp_path, f"en,de\n{'x' * 500_000},b\n")) == [("x" * 500_000, "b")]
  many = "y" * 1000 + "\n"
  refused(lambda: pairs(table(tmp_path, f'en,de\n"{many * 2000}",b\n')), "line 2: ", "field larger")
  assert csv.field_size_limit() == usual
  refused(lambda: pairs(table(tmp_path, "en,de\na\n")), "line 2: 1 column")
  assert csv.field_size_limit() == usual


def test_rows_with_an_empty_side_are_dropped_with_a_count(tmp_path, caplog):
  with caplog.at_level(logging.WARNING):
    assert pairs(table(tmp_path, "en,de\na,b\n,c\nd,\n,\n")) == [("a", "b")]
  assert "dropped 3 of 4 examples with an empty side" in caplog.text


def test_a_table_may_lack_further_references_and_says_so(tmp_path, caplog):
  config = table(tmp_path, "en,de,more\na,b,c\nd,e,\n")
  config.reference_fields = ("more", "moore")
  with caplog.at_level(logging.WARNING):
    source = data.load_split(config, "train")
  assert [source[i].references for i in range(2)] == [("b", "c"), ("e",)]
  assert "train.csv: no column 'moore' of config.data.reference_fields" in caplog.text


FAULTS = [
    ("", "train.csv: is empty: write the names of the columns into its first row"),
    ("\n \n", "train.csv: is empty"),
    ("en,de\n", "no example with both sides filled (0 rows read)"),
    (
        "A dog.,Ein Hund.\n",
        "no column 'en', only 'A dog.', 'Ein Hund.': set config.data.source_field",
    ),
    ("A dog.,Ein Hund.\n", "give the file a first row that names the columns, with commas between"),
    ("en,DE\na,b\n", "no column 'de', only 'en', 'DE': set config.data.target_field"),
    ("en;de\na;b\n", "no column 'en', only 'en;de': "),
    ("en\tde\na\tb\n", r"no column 'en', only 'en\tde': "),
    (",".join(f"c{i}" for i in range(5000)) + "\n", "'c18', 'c19' and 4980 more: "),
    ("x" * 5000 + ",b\n", f"only '{'x' * 40}...', 'b': "),
    ("en,de,en\na,b,c\n", "train.csv: column 'en' occurs twice"),
    ("en,de\na,b\nc\n", "line 3: 1 column, but the first row has 2: put a field that holds commas"),
    ("en,de\na,b\nc,d,e\n", "line 3: 3 columns, but the first row has 2"),
    ('en,de\n"a\n\n",b\nc,d,e\n', "line 5: 3 columns"),  # lines, not rows
    ('en,de\na,b\n"c,d\ne,f\n', "line 3: not a row of a table (unexpected end of data)"),
    ('en,de\n"a" b,c\n', "line 2: not a row of a table (',' expected after '\"'): put a field"),
    ("en,de\ra,b\rc,d\r", "line 1: not a row of a table (new-line character seen"),
    (b"en,de\na,Gr\xfcn\n", "train.csv, line 2: not valid UTF-8"),
    (b"en,de\na,b\0\n", "train.csv, line 2: holds NUL bytes"),
    ("en,de\na,b\n".encode("utf-16"), "train.csv: is UTF-16: convert the file"),
    ("en,de\n" + "x" * 2**21 + ",b\n", "line 2: has more than 1,048,576 bytes"),
]


@pytest.mark.parametrize("content, said", FAULTS, ids=range(len(FAULTS)))
def test_a_table_that_cannot_be(tmp_path, content, said):
  refused(lambda: pairs(table(tmp_path, content)), said, "train.csv")


def test_a_table_with_commas_read_as_one_with_tabs(tmp_path):
  config = table(tmp_path, "en,de\na,b\n", "tsv")
  refused(lambda: pairs(config), "only 'en,de': ", "with tabs between")
