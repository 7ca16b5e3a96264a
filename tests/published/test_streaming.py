"""Weights come and go one parameter at a time, and nothing is read that is not asked for."""

from collections.abc import Mapping
import re
import weakref

import numpy as np
from tiny_folders import random_model, saved

from kdtw_jax import published
from kdtw_jax.published.tensors import Tensors, write_tensors

# Published arrays that belong to the parameter of the one before.
CONTINUES = re.compile(
    r"SelfAttention\.[kv]\.weight|EncDecAttention\.v\.weight|wi_1\.weight"
    r"|block\.[1-9]\d*\.layer\.0\.SelfAttention\.relative_attention_bias\.weight"
)


class Watched(Mapping):
  """Weights that are made when asked for; knows which of them are still in memory.

  It looks empty, lest the tests' type checker read an item for itself.
  """

  def __init__(self, shapes: dict[str, tuple[int, ...]]):
    self.shapes = shapes
    self.live: dict[str, int] = {}
    self.seen: list[tuple[str, set[str]]] = []
    self.peak = 0

  def __getitem__(self, name: str) -> np.ndarray:
    array = np.ones(self.shapes[name], np.float32)
    self.live[name] = array.nbytes
    weakref.finalize(array, self.live.pop, name)
    self.seen.append((name, set(self.live)))
    self.peak = max(self.peak, sum(self.live.values()))
    return array

  def __contains__(self, name: object) -> bool:
    return name in self.shapes

  def __iter__(self):
    return iter(())

  def __len__(self) -> int:
    return 0


def test_published_arrays_of_one_parameter_are_in_memory_at_a_time():
  config, _, params = random_model(
      feed_forward="gated-gelu", tie_embeddings=False, bias_per_layer=True, num_decoder_layers=2
  )
  shapes = {name: x.shape for name, x in published.export_weights(params, config)}
  weights = Watched(shapes)
  kept = published.import_weights(weights, config, place_fn=lambda path, array: None)
  assert kept["encoder"]["layer_0"]["self_attention"]["qkv"] is None
  assert {name for name, _ in weights.seen} == set(shapes)
  for name, live in weights.seen:
    if not CONTINUES.search(name):
      assert live == {name}
  assert weights.peak == 4 * max(
      40 * 12, 3 * 10 * 12, 2 * 20 * 12
  )  # the embedding, the widest attention, the feed-forward
  assert not weights.live


def test_what_put_keeps_is_all_that_stays():
  config, _, params = random_model(tie_embeddings=False)
  weights = Watched({name: x.shape for name, x in published.export_weights(params, config)})
  kept = published.import_weights(weights, config, place_fn=lambda path, array: np.array(array))
  assert not weights.live
  np.testing.assert_array_equal(kept["readout_kernel"], 1)


def test_opening_a_model_and_asking_for_names_reads_no_tensor(tmp_path, monkeypatch):
  saved(tmp_path / "model", tie_embeddings=False)

  def read(self, name):
    raise AssertionError(f"{name} was read")

  monkeypatch.setattr(Tensors, "__getitem__", read)
  assert not published.open_published(tmp_path / "model").architecture["tie_embeddings"]
  tensors = Tensors(tmp_path / "model")
  assert "shared.weight" in tensors and "lm_head.bias" not in tensors
  assert len(tensors) == len(list(tensors)) > 20


def test_a_shard_is_written_before_the_next_is_made(tmp_path):
  live: dict[int, int] = {}
  most = []

  def made():
    for i in range(12):
      array = np.full((10, 10), i, np.float32)
      live[i] = array.nbytes
      weakref.finalize(array, live.pop, i)
      most.append(sum(live.values()))
      yield f"tensor{i}", array

  write_tensors(tmp_path, made(), shard_bytes=1200)
  assert max(most) <= 1200 + 400  # a shard of three, and the one that no longer fits in it
  assert len(list(tmp_path.glob("model-*.safetensors"))) == 4
