"""The folder of a pair: it loads as it was saved, or says which part does not belong there."""

import json
import shutil

from flax import traverse_util
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kdtw_jax import decoding
from kdtw_jax.pair import load_pair
from tests import tiny_pair


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  return tiny_pair.save(tmp_path_factory.mktemp("run") / "pair")


def test_a_pair_loads_by_its_folder_or_its_workdir(saved):
  pair = load_pair(saved)
  for folder in (saved.parent, str(saved.parent), str(saved)):
    loaded = load_pair(folder)
    assert loaded.duals == tiny_pair.DUALS == pair.duals
    assert loaded.shortest == tiny_pair.SHORTEST == pair.shortest
    assert loaded.student == pair.student and loaded.teacher == pair.teacher


def edit_json(path, edit):
  value = json.loads(path.read_text(encoding="utf-8"))
  path.write_text(json.dumps(edit(value) or value), encoding="utf-8")


def test_a_teacher_may_be_read_in_eight_bits(saved, tmp_path):
  folder = shutil.copytree(saved, tmp_path / "pair")
  edit_json(folder / "pair.json", lambda saved: saved["config"]["teacher"].update(int8=True))
  eight, whole = load_pair(folder), load_pair(saved)
  for path, kernel in traverse_util.flatten_dict(whole.teacher_params).items():
    found = traverse_util.flatten_dict(eight.teacher_params)[path]
    if path[-1] == "wi":
      assert found.values.dtype == jnp.int8 and found.values.shape == kernel.shape
  texts = tiny_pair.TEXTS[:2]
  assert [out.calls for out in eight.write(texts, 0.2)] == [
      out.calls for out in whole.write(texts, 0.2)
  ]


def forget_checksums(folder):
  """Without the lists of checksums, weights may be edited."""
  for path in folder.glob("*/checksums.json"):
    path.unlink()


def edit_tensors(path, edit):
  tensors = load_file(path)
  edit(tensors)
  save_file(tensors, path)


def set_field(section, name, value):
  def edit(folder):
    edit_json(folder / "pair.json", lambda saved: saved["config"][section].update({name: value}))

  return edit


def set_saved(**values):
  return lambda folder: edit_json(folder / "pair.json", lambda saved: saved.update(values))


def drop_field(section, name):
  return lambda folder: edit_json(
      folder / "pair.json", lambda saved: saved["config"][section].pop(name) and None
  )


def write_text(name, content):
  return lambda folder: (folder / name).write_text(content, encoding="utf-8")


def set_duals(make):
  def edit(folder):
    edit_tensors(
        folder / "student" / "kdtw.safetensors",
        lambda tensors: tensors.update(duals=make(tensors["duals"])),
    )

  return edit


def set_weight(who, make, name="shared.weight", file="model.safetensors"):
  def edit(folder):
    edit_tensors(folder / who / file, lambda tensors: tensors.update({name: make(tensors[name])}))

  return edit


def put_in(part, **other):
  """Replaces a part of the folder by that of another pair."""

  def edit(folder):
    another = tiny_pair.save(folder.parent / "another", **other)
    if (folder / part).is_dir():
      shutil.rmtree(folder / part)
      shutil.copytree(another / part, folder / part)
    else:
      shutil.copy(another / part, folder / part)

  return edit


def with_nan(array):
  return np.where(np.arange(array.size).reshape(array.shape) == 1, np.nan, array).astype(
      array.dtype
  )


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda folder: (folder / "pair.json").unlink(), r"pair.json is missing\): give the"),
        (write_text("pair.json", "{"), r"pair/pair.json: damaged \(Expecting.*copy the whole pair"),
        (write_text("pair.json", ""), r"pair/pair.json: damaged"),
        (write_text("pair.json", "[]"), r"pair/pair.json: damaged \(needs a 'config'"),
        (write_text("pair.json", "[" * 10**5), r"pair/pair.json: damaged"),
        (write_text("pair.json", '{"config": {}}'), r"pair/pair.json: damaged \(needs"),
        (drop_field("budgets", "train"), r"pair.json: config.budgets.train is missing: copy"),
        (drop_field("data", "buckets"), r"pair.json: config.data.buckets is missing: copy"),
        (set_field("budgets", "train", []), r"pair.json: config.budgets.train=\[\] is not valid"),
        (set_field("budgets", "train", [0, "1"]), r"config.budgets.train=\[0, '1'\] is not valid"),
        (set_field("data", "buckets", [[8]]), r"config.data.buckets=\[\[8\]\] is not valid"),
        (set_field("decode", "max_length", 0), r"config.decode.max_length=0 is not valid"),
        (set_field("decode", "max_length", True), r"config.decode.max_length=True is not valid"),
        (drop_field("decode", "wait"), r"pair.json: config.decode.wait is missing: copy"),
        (set_field("decode", "wait", 1.5), r"config.decode.wait=1.5 is not valid"),
        (set_saved(paces=None), r"paces=None is not valid, must be numbers >= 0 by form of bud"),
        (set_saved(paces={"hard": -1}), r"paces={'hard': -1} is not valid, must be numbers >= 0"),
        (
            set_saved(shortest=None),
            r"pair.json: shortest=None is not valid, must be two numbers: copy",
        ),
        (set_saved(shortest=[1.0]), r"shortest=\[1.0\] is not valid, must be two numbers"),
        (set_saved(shortest=[1.0, float("nan")]), r"shortest=\[1.0, nan\] is not valid"),
        (
            set_saved(prices=0.5),
            r"pair.json: prices=0.5 is not valid, must be two lists of as many",
        ),
        (set_saved(prices=[[], []]), r"prices=\[\[\], \[\]\] is not valid"),
        (set_saved(prices=[[0.1], [1, 2]]), r"prices=\[\[0.1\], \[1, 2\]\] is not valid"),
        (set_saved(prices=[[0.2, 0.1], [1, 2]]), r"prices=.* the first ascending: copy"),
        (set_field("data", "task", None), r"config.data.task=None is not valid"),
        (
            set_field("budgets", "knots", [0.0, 0.1]),
            r"student/kdtw.json: price_knots=\(0.0, 0.05, .* but config.budgets.knots=\(0.0, 0.1\)",
        ),
        (set_duals(lambda x: x[:2].copy()), r"kdtw.safetensors: duals of shape \(2,\), but there"),
        (set_duals(lambda x: x * np.float32(np.nan)), r"duals \[nan, .*\] are not finite: train"),
        (
            lambda folder: edit_tensors(
                folder / "student" / "kdtw.safetensors", lambda tensors: tensors.pop("duals")
            ),
            r"kdtw.safetensors: duals are missing, but there are 6 budgets.knots",
        ),
        (
            lambda folder: (folder / "student" / "kdtw.safetensors").unlink(),
            r"kdtw.safetensors: .* is missing, but kdtw.json asks for float32\[",
        ),
        (
            set_weight("student", lambda x: x.astype(np.int32), "price/duals", "kdtw.safetensors"),
            r"'price/duals' is int32\[6\], but kdtw.json asks for float32\[6\]",
        ),
        (
            set_weight("student", lambda x: x.astype(np.int32)),
            r"student: weights: 'shared.weight' is int32, must be floating point",
        ),
        (
            set_weight("teacher", lambda x: x.astype(np.int32)),
            r"teacher: weights: 'shared.weight' is int32",
        ),
        (set_weight("student", with_nan), r"pair/student: shared/embedding is not finite"),
        (set_weight("teacher", with_nan), r"pair/teacher: shared/embedding is not finite"),
        (
            set_weight("teacher", lambda x: np.full_like(x, np.inf)),
            r"pair/teacher: shared/embedding is not finite",
        ),
        (
            lambda folder: (folder / "teacher" / "model.safetensors").write_bytes(b"junk"),
            r"teacher/model.safetensors: damaged",
        ),
        (
            lambda folder: shutil.rmtree(folder / "teacher"),
            r"pair/teacher: missing, though pair.json lies beside it",
        ),
        (
            lambda folder: shutil.rmtree(folder / "student"),
            r"pair/student: missing, though pair.json lies beside it",
        ),
        (
            put_in("student", vocab_size=280),
            r"pair/student and .*/pair/teacher have different voca",
        ),
        (
            put_in("teacher", vocab_size=280),
            r"pair/student and .*/pair/teacher have different voca",
        ),
        (put_in("teacher", task="translate"), r"have different vocabularies: pieces of id"),
        (
            put_in("teacher/model.safetensors", vocab_size=280),
            r"pair/teacher: weights: a table of 280 rows for 300 tokens",
        ),
        (
            lambda folder: [
                put_in(f"{who}/tokenizer.model", vocab_size=280)(folder)
                for who in ("student", "teacher")
            ],
            r"pair/student: vocab_size=300, but 280 by the tokenizer in",
        ),
        (
            lambda folder: edit_json(
                folder / "student" / "kdtw.json", lambda own: own.update(gate="door")
            ),
            r"student/kdtw.json: model.gate='door': must be one of",
        ),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(saved, tmp_path, damage, message):
  folder = tmp_path / "pair"
  shutil.copytree(saved, folder)
  damage(folder)
  forget_checksums(folder)
  with pytest.raises((ValueError, FileNotFoundError), match=message) as refused:
    load_pair(folder)
  assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["student/model.safetensors", "student/kdtw.safetensors", "teacher/model.safetensors"]
)
def test_a_flipped_bit_of_a_weight_is_found(saved, tmp_path, name):
  folder = tmp_path / "pair"
  shutil.copytree(saved, folder)
  content = bytearray((folder / name).read_bytes())
  content[-5] ^= 16
  (folder / name).write_bytes(content)
  with pytest.raises(
      ValueError, match=rf"{name}: damaged, .*: copy or download it again, or delete"
  ):
    load_pair(folder)


def test_bfloat16_weights_of_a_teacher_are_floating_point(saved, tmp_path):
  folder = tmp_path / "pair"
  shutil.copytree(saved, folder)
  bfloat16 = jnp.bfloat16
  for name in load_file(folder / "teacher" / "model.safetensors"):
    set_weight("teacher", lambda x: x.astype(bfloat16), name)(folder)
  forget_checksums(folder)
  assert load_pair(folder).write("a", policy=decoding.make_policy("teacher")).tokens
