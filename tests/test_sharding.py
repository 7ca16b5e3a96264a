"""What runs over a mesh: the numbers of one device, memory shared, little said between devices."""

import dataclasses
import functools
import math
import re

import jax
import numpy as np
import pytest

from kdtw_jax import checkpoint, data, decoding, devices
from kdtw_jax import config as config_lib
from kdtw_jax.data.example import InMemorySource
from kdtw_jax.evaluation.outputs import Runner
from kdtw_jax.models import ModelConfig, Models, build
from kdtw_jax.models.config_checks import GEMMA_BLOCKS
from kdtw_jax.stages import checks, rollouts, supervised
from kdtw_jax.training import optim
from kdtw_jax.training import state as state_lib
from kdtw_jax.training import step as step_lib
from tests import tiny
from tests.decoding.compiled_loops import inside_loops

MESHES = ((1, 1, 1), (8, 1, 1), (1, 8, 1), (1, 1, 2), (2, 2, 2))
ROWS, STEPS, LENGTH, SOURCE = 16, 3, 13, 23  # lengths that no other array has
SENTENCES = ["a", "b c", "d e f g", "a b c d e f", "g", "f e d", "c", "b a b a b"] * 2
TOKENIZER = functools.cache(
    lambda: data.train_tokenizer(
        [*SENTENCES, *data.tokenizer_text()], seed=0, kind="bpe", vocab_size=120
    )
)


T5GEMMA = {
    "kind": "t5gemma",
    "feed_forward": "gated-gelu",
    **GEMMA_BLOCKS,
    "qk_norm": False,
    "d_kv": 6,
}
CAUSAL = {"kind": "causal", "feed_forward": "gated-silu", "num_key_heads": 2, "num_heads": 4}


@functools.cache
def drawn(kind="t5"):
  """(student, its params, teacher, its params), on no mesh; large enough that outputs vary."""
  shared = dict(
      vocab_size=TOKENIZER().vocab_size,
      tau_id=TOKENIZER().tau_id,
      num_encoder_layers=1,
      num_decoder_layers=1,
      num_heads=2,
      dropout_rate=0.1,
      d_model=16,
      d_ff=24,
      d_kv=5,
  )
  if kind == "causal":
    shared |= CAUSAL | dict(d_kv=6)
  found = []
  for seed, heads in enumerate((dict(gate="mlp", value_heads=True), {})):
    model = build(ModelConfig(**shared, **heads))
    params = jax.device_get(jax.jit(model.init)(jax.random.key(seed)))
    found += [model, jax.tree.map(lambda leaf: 2.5 * leaf, params)]
  return tuple(found)


@functools.cache
def on(sizes, kind="t5"):
  """(mesh, models, their params) on a mesh of these sizes."""
  mesh = devices.make_mesh(*sizes)
  student, student_params, teacher, teacher_params = drawn(kind)
  models = Models(*(build(m.config, devices.Layout(mesh)) for m in (student, teacher)))
  params = [
      jax.device_put(values, model.shardings(values))
      for model, values in zip(models, (student_params, teacher_params), strict=True)
  ]
  return mesh, models, params


@functools.cache
def trained(sizes, kind="t5", **step_fields):
  """(losses, the state after a few steps, HLO of the step): references, dropout, an average."""
  mesh, models, (params, _) = on(sizes, kind)
  section = tiny.stage("sft", ema_decay=0.5, steps=STEPS)
  optimizer = optim.make_optimizer(section)
  create = functools.partial(state_lib.create, optimizer=optimizer, ema=True)
  shardings = models.student.shardings(jax.eval_shape(create, params))
  state = jax.jit(create, out_shardings=shardings)(params)
  objective = supervised.cross_entropy(models.student, section)
  step_fn = step_lib.make_train_step(
      objective, optimizer, ema_decay=0.5, shardings=shardings, **step_fields
  )
  batch, key = devices.shard_batch(mesh, tiny.batch(rows=ROWS)), jax.random.key(4)
  program, losses = step_fn.lower(state, None, batch, key).compile(), []
  for _ in range(STEPS):
    state, metrics = program(state, None, batch, key)
    losses.append(float(metrics["loss"]))
  return losses, state, program.as_text()


@functools.cache
def sampled(sizes):
  """The tokens of a rollout at temperature 1, half of whose rows are the student's."""
  mesh, models, params = on(sizes)
  section = tiny.stage("distillation", on_policy_fraction=0.5)
  batch = devices.shard_batch(mesh, tiny.batch(rows=ROWS))
  rollout = rollouts.make_rollout(models, section, max_length=LENGTH)
  return np.asarray(rollout(*params, batch, jax.random.key(5)).tokens)


@functools.cache
def evaluated(sizes, kind="t5"):
  """(greedy outputs of a split, in which the gate asks; HLO of the decoder)."""
  mesh, models, (params, teacher_params) = on(sizes, kind)
  source, config = InMemorySource([(text, text) for text in SENTENCES]), config_lib.defaults()
  config.evaluation.batch_size, config.data.prompt_length = 8, 60
  config.decode.max_length, config.decode.chunk = LENGTH, LENGTH + 1
  kept = data.tokenise(source, TOKENIZER(), buckets=((SOURCE, 24),), over_long="truncate")
  runner = Runner(
      config,
      models,
      mesh,
      TOKENIZER(),
      teacher_params,
      sources={"test": source},
      tokenised={"test": kept},
  )
  policy, programs = decoding.make_policy("max_prob", 0.9), []
  decode = runner._decode

  def noted(*args):
    if not programs:
      programs.append(decode.lower(*args))
    return decode(*args)

  runner._decode = noted
  outputs = runner.run("test", policy, params)
  return outputs, programs[0].compile().as_text()  # compiled before: read from the cache


# The numbers of one device ------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", MESHES[1:], ids=str)
def test_training_is_that_of_one_device(sizes):
  losses, state, _ = trained(sizes)
  one_losses, one_state, _ = trained(MESHES[0])
  np.testing.assert_allclose(losses, one_losses, rtol=1e-5)
  assert len(set(one_losses)) == STEPS
  for part in ("params", "ema_params"):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        getattr(state, part),
        getattr(one_state, part),
    )


def test_parts_of_a_batch_are_made_of_the_rows_of_each_device():
  parts, hlo = {}, ""
  for sizes in (MESHES[0], (8, 1, 1)):
    parts[sizes], _, hlo = trained(sizes, microbatches=2)
  np.testing.assert_allclose(parts[8, 1, 1], parts[MESHES[0]], rtol=1e-5)
  assert "all-reduce" in hlo
  assert not any(moved in hlo for moved in ("all-to-all", "collective-permute", "all-gather"))


@pytest.mark.parametrize("sizes", MESHES[1:], ids=str)
def test_rollouts_are_those_of_one_device(sizes):
  np.testing.assert_array_equal(sampled(sizes), sampled(MESHES[0]))
  assert len(np.unique(sampled(sizes))) > 8


@pytest.mark.parametrize("sizes", MESHES[1:], ids=str)
def test_greedy_outputs_are_those_of_one_device(sizes):
  found, wanted = evaluated(sizes)[0], evaluated(MESHES[0])[0]
  assert found.ids == wanted.ids and found.texts == wanted.texts
  for name, counts in wanted.counts.items():
    np.testing.assert_array_equal(found.counts[name], counts, name)
  assert 0.1 < wanted.teacher_share < 0.9  # both models wrote


@pytest.mark.parametrize("sizes", [(1, 8, 1), (2, 2, 2)], ids=str)
def test_causal_models_train_and_write_as_on_one_device(sizes):
  """Key heads are fewer than queries', and the cache of a prompt is split as the source's is."""
  losses, _, _ = trained(sizes, "causal")
  np.testing.assert_allclose(losses, trained(MESHES[0], "causal")[0], rtol=1e-5)
  found, wanted = evaluated(sizes, "causal")[0], evaluated(MESHES[0], "causal")[0]
  assert found.ids == wanted.ids
  for name, counts in wanted.counts.items():
    np.testing.assert_array_equal(found.counts[name], counts, name)
  assert 0.1 < wanted.teacher_share < 0.9  # both models wrote


# Memory and messages ------------------------------------------------------------------------------


def on_one_device(tree):
  """Bytes of a pytree on the first device."""
  return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("sizes, parts", [((8, 1, 1), 1), ((1, 8, 1), 8), ((2, 2, 2), 4)], ids=str)
def test_parameters_average_and_moments_are_shared(sizes, parts):
  _, state, _ = trained(sizes)
  trunk = [
      {"encoder": tree["encoder"]["layer_0"]["feed_forward"], "shared": tree["shared"]}
      for tree in (state.params, state.ema_params)
  ]
  whole = sum(leaf.nbytes for leaf in jax.tree.leaves(trunk))
  assert on_one_device(trunk) == whole // parts
  kernels = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.shape == (16, 24)]
  assert len(kernels) == 4  # both moments of `wi` of both stacks
  assert {leaf.addressable_shards[0].data.size for leaf in kernels} == {16 * 24 // parts}


COLLECTIVE = re.compile(
    r"= (.*?) (all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute)(?:-start)?\("
)


def collectives(lines):
  """(kind, elements of the largest result) of each message between devices."""
  for line in lines:
    if found := COLLECTIVE.search(line):
      shapes = re.findall(r"\w+\[([\d,]*)\]", found.group(1))
      yield found.group(2), max(math.prod(map(int, filter(None, s.split(",")))) for s in shapes)


def test_fsdp_gathers_a_layer_at_a_time():
  _, state, hlo = trained((1, 8, 1))
  layers = [
      *(state.params[stack]["layer_0"] for stack in ("encoder", "decoder")),
      state.params["shared"],
  ]
  largest = max(sum(leaf.size for leaf in jax.tree.leaves(layer)) for layer in layers)
  gathered = [size for kind, size in collectives(hlo.splitlines()) if kind == "all-gather"]
  assert len(gathered) > 4 and max(gathered) <= largest
  assert largest < sum(leaf.size for leaf in jax.tree.leaves(state.params)) / 3


@pytest.mark.parametrize("sizes", MESHES[1:], ids=str)
def test_no_cache_is_sent_while_texts_are_written(sizes):
  lines = [line for body in inside_loops(evaluated(sizes)[1]).values() for line in body]
  _, models, params = on(sizes)
  source = np.full((8, SOURCE), 5, np.int32)
  caches = [
      jax.eval_shape(lambda p, s, fns=model.decoder_fns: fns.start(p, s, LENGTH), values, source)
      for model, values in zip(models, params, strict=True)
  ]
  whole = {leaf.size for leaf in jax.tree.leaves(caches) if leaf.ndim == 4}
  some = {size // parts for size in whole for parts in (1, 2, 4, 8)}
  sent = list(collectives(lines))
  assert sent and not [size for _, size in sent if size in some]
  if sizes[1:] == (1, 1):  # rows alone: nobody needs another's, but for the counts and `top_k`
    assert max(size for _, size in sent) <= 8 * TOKENIZER().vocab_size


# From one mesh to another -------------------------------------------------------------------------


def test_a_checkpoint_of_one_mesh_is_read_on_another(tmp_path):
  _, state, _ = trained((2, 2, 2))
  store = checkpoint.StageCheckpoints(tmp_path, keep=1)
  store.save(STEPS, state, {"loss": 1.0})
  _, models, _ = on((1, 8, 1))
  found, _ = store.restore(models.student.placed(state))
  store.close()
  jax.tree.map(np.testing.assert_array_equal, found, state)
  assert on_one_device(found.params) < on_one_device(state.params)


def test_parameters_are_drawn_where_they_lie():
  _, models, _ = on((2, 2, 2))
  shardings = models.teacher.shardings(models.teacher.shapes)
  found = jax.jit(models.teacher.init, out_shardings=shardings)(jax.random.key(1))
  wanted = jax.tree.map(lambda leaf: leaf / 2.5, drawn()[3])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), found, wanted)
  assert on_one_device(found) < sum(leaf.nbytes for leaf in jax.tree.leaves(found)) / 3


def test_a_whole_student_stands_beside_a_split_teacher():
  mesh = devices.make_mesh(1, 4, 2)
  student, teacher = (
      build(model.config, devices.Layout(mesh, how))
      for model, how in zip(drawn()[::2], ("whole", "fsdp+tensor"), strict=True)
  )
  assert all(s.is_fully_replicated for s in jax.tree.leaves(student.shardings(student.shapes)))
  kernel = teacher.shardings(teacher.shapes)["shared"]["embedding"]
  assert kernel.spec == jax.P("tensor", "fsdp")


@pytest.mark.parametrize(
    "sizes, changes, said",
    [
        (
            (1, 1, 8),
            {},
            "config.mesh.tensor=8: does not divide config.teacher.model.num_heads=2 of",
        ),
        (
            (1, 1, 2),
            {"d_ff": 15},
            "config.mesh.tensor=2: does not divide config.teacher.model.d_ff",
        ),
        (
            (1, 8, 1),
            {"d_model": 12},
            "config.mesh.fsdp=8: does not divide config.teacher.model.d_m",
        ),
        (
            (1, 8, 1),
            {**T5GEMMA, "encoder": (("d_model", 12),)},
            "config.mesh.fsdp=8: does not divide config.teacher.model.d_model=12",
        ),
    ],
)
def test_a_mesh_that_does_not_divide_a_model_is_refused(sizes, changes, said):
  config = config_lib.defaults()
  sizes_of = dataclasses.replace(drawn()[2].config, **changes)
  model = build(sizes_of, devices.Layout(devices.make_mesh(*sizes)))
  with pytest.raises(ValueError, match=re.escape(said) + ".*teacher.sharding"):
    checks.check_mesh(config, "teacher", model)
  config.teacher.sharding = "whole"
  checks.check_mesh(config, "teacher", model)
