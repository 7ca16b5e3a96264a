"""A folder of ours in the hands of transformers and CTranslate2: the same ids in, the same out."""

import jax
import numpy as np
import pytest
from tiny_folders import random_model

from tests.t5_tokenizer import make_t5

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from kdtw_jax import decoding, published
from kdtw_jax.base import EOS_ID, PAD_ID, TAU
from kdtw_jax.data import HELD_OUT_WORDINGS, load_tokenizer, render, tokenizer_text, train_tokenizer
from kdtw_jax.data.phrasebook import PhrasebookSource

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore"),  # the libraries' own deprecations are not ours to fail on
]
NUM_INPUTS, LENGTH = 48, 24
V1_1 = {"tie_embeddings": False, "feed_forward": "gated-gelu"}
# What of a model decides how others read it: options of a tokenizer of ours, then the architecture.
STUDENTS = {
    "bpe": ({"kind": "bpe"}, {"gate": "token"}),
    "unigram with bytes": ({"kind": "unigram", "byte_fallback": True}, {"gate": "mlp", **V1_1}),
    "bias per layer": ({"kind": "unigram"}, {"bias_per_layer": True, "tie_embeddings": False}),
    "published vocabulary": (None, V1_1),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
  """Threads of torch that wait for each other cost more than models this small."""
  before = torch.get_num_threads()
  torch.set_num_threads(1)
  yield
  torch.set_num_threads(before)


@pytest.fixture(scope="module")
def phrases():
  source = PhrasebookSource("train", size=300, seed=0)
  return [text for i in range(300) for text in (source[i].source, source[i].target)]


@pytest.fixture(scope="module")
def inputs():
  """Phrases with a budget in words; some spell `<τ>`."""
  source = PhrasebookSource("test", size=NUM_INPUTS, seed=0)
  return [
      render(i / 100, HELD_OUT_WORDINGS[i % 4]) + source[i].source + f" {TAU}" * (i % 8 == 0)
      for i in range(NUM_INPUTS)
  ]


@pytest.fixture(scope="module", params=STUDENTS)
def student(request, phrases, tmp_path_factory):
  """(folder, our model, our params, our tokenizer) of a student with random weights."""
  options, changes = STUDENTS[request.param]
  if options is None:
    original = tmp_path_factory.mktemp("published") / "t5"
    make_t5(original)
    tokenizer = load_tokenizer(original)
  else:
    lines = [*phrases, *tokenizer_text()[:100]]
    tokenizer = train_tokenizer(lines, vocab_size=400, **options)
  rows = {name: getattr(tokenizer, name) for name in ("vocab_size", "num_tokens", "tau_id")}
  config, model, params = random_model(d_model=32, **rows, **changes)
  for layer in (value for name, value in params["decoder"].items() if name.startswith("layer")):
    layer["cross_attention"]["out"] *= 4  # outputs that depend on the input
  if "readout_kernel" in params:
    params["readout_kernel"][tokenizer.num_tokens :] = 0  # padding, as a table is grown
  folder = tmp_path_factory.mktemp("student") / "student"
  duals = np.ones(len(config.price_knots), np.float32)
  published.save_model(folder, params, config, duals=duals, save_tokenizer=tokenizer.save)
  return folder, model, params, tokenizer


def up_to_eos(ids):
  ids = list(map(int, ids))
  return ids[: ids.index(EOS_ID)] if EOS_ID in ids else ids


@pytest.fixture(scope="module")
def ours(student, inputs):
  """What our greedy decoder writes, up to EOS."""
  _, model, params, tokenizer = student
  rows = [[*ids, EOS_ID] for ids in tokenizer.encode_batch(inputs)]
  source = np.full((NUM_INPUTS, max(map(len, rows))), PAD_ID, np.int32)
  for row, ids in zip(source, rows, strict=True):
    row[: len(ids)] = ids
  decode = decoding.make_decoder(None, model.decoder_fns, max_length=LENGTH)
  budgets = np.zeros(NUM_INPUTS, np.float32)
  alone = decoding.make_policy("teacher")  # one model writes everything
  written = decode(None, params, None, source, budgets, jax.random.key(0), alone)
  tokens = [up_to_eos(row) for row in np.asarray(written.tokens)]
  assert len({tuple(row) for row in tokens}) > NUM_INPUTS / 2
  assert len(set().union(*tokens)) > 20
  return tokens


@pytest.fixture(scope="module")
def theirs(student):
  import transformers

  return transformers.AutoTokenizer.from_pretrained(student[0])


def test_transformers_reads_and_writes_the_same(student, inputs, ours, theirs):
  import transformers

  model = transformers.AutoModelForSeq2SeqLM.from_pretrained(student[0]).eval()
  assert theirs(inputs)["input_ids"] == [[*student[-1].encode(text), EOS_ID] for text in inputs]
  batch = theirs(inputs, padding=True, return_tensors="pt")
  with torch.no_grad():
    written = model.generate(**batch, max_new_tokens=LENGTH, do_sample=False, num_beams=1)
  assert [up_to_eos(row[1:]) for row in written] == ours


def test_ctranslate2_converts_and_writes_the_same(student, inputs, ours, theirs, tmp_path):
  ctranslate2 = pytest.importorskip("ctranslate2")
  converter = ctranslate2.converters.TransformersConverter(str(student[0]))
  folder = converter.convert(str(tmp_path / "converted"))
  silent = [[piece] for piece in ("<pad>", TAU) if piece in theirs.get_vocab()]
  translator = ctranslate2.Translator(folder, compute_type="float32", intra_threads=1)
  results = translator.translate_batch(
      [theirs.convert_ids_to_tokens(theirs(text)["input_ids"]) for text in inputs],
      beam_size=1,
      max_decoding_length=LENGTH,
      suppress_sequences=silent,  # it does not read generation_config.json
  )
  written = [theirs.convert_tokens_to_ids(result.hypotheses[0]) for result in results]
  assert written == ours
