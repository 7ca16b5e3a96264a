"""Token losses by name: the built-in ones, one of one's own, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdtw_jax import losses

TEACHER, STUDENT = (jax.random.normal(jax.random.key(i), (2, 3, 5)) for i in range(2))
TOKENS = jnp.asarray([[1, 2, 3], [4, 0, 1]])


def test_each_built_in_loss_is_its_function():
  wanted = {
      "cross_entropy": losses.cross_entropy(STUDENT, TOKENS),
      "forward_kl": losses.forward_kl(TEACHER, STUDENT),
      "reverse_kl": losses.reverse_kl(TEACHER, STUDENT),
      "generalized_jsd": losses.generalized_jsd(TEACHER, STUDENT, beta=0.3),
      "skew_kl": losses.skew_kl(TEACHER, STUDENT, skew=0.2),
      "skew_reverse_kl": losses.skew_reverse_kl(TEACHER, STUDENT, skew=0.2),
      "teacher_choice": losses.teacher_choice(TEACHER, STUDENT),
  }
  options = {
      "generalized_jsd": {"beta": 0.3},
      "skew_kl": {"skew": 0.2},
      "skew_reverse_kl": {"skew": 0.2},
  }
  found = losses.weighted_losses(
      {name: {"weight": 2.0, **options.get(name, {})} for name in wanted}
  )
  for name, value in wanted.items():
    loss = found[name]
    assert loss[:2] == (2.0, "all") and not loss.of_sequences
    np.testing.assert_array_equal(loss.fn(TEACHER, STUDENT, TOKENS), value)


def test_losses_without_weight_are_not_computed():
  assert losses.weighted_losses({"forward_kl": {"weight": 0.0}}) == {}


@pytest.mark.parametrize(
    "section, message",
    [
        ({"forward_lk": {"weight": 1.0}}, "losses.forward_lk: unknown loss; registered are cross_"),
        (
            {"forward_kl": {"weight": -1.0}},
            "losses.forward_kl.weight=-1.0: must be finite and >= 0",
        ),
        ({"forward_kl": {"weight": float("nan")}}, "must be finite"),
        ({"forward_kl": {"weight": 1.0, "rows": "mine"}}, "forward_kl.rows='mine': must be one of"),
        ({"forward_kl": {"weight": 1.0, "beta": 1.0}}, "forward_kl.beta: unknown option; .* none"),
    ],
)
def test_what_cannot_be_is_refused(section, message):
  with pytest.raises(ValueError, match=message):
    losses.weighted_losses(section)


@pytest.mark.parametrize(
    "entry", [{"minillm": {"weight": 1.0}}, {"forward_kl": {"weight": 1.0, "rows": "on_policy"}}]
)
def test_a_stage_without_own_sequences_refuses_losses_of_them(entry):
  assert losses.weighted_losses(entry)
  with pytest.raises(ValueError, match="takes sequences that the student wrote"):
    losses.weighted_losses(entry, of_sequences=False)


def test_names_are_identifiers_and_taken_once():
  with pytest.raises(ValueError, match="must be a name of letters"):
    losses.register_loss("forward kl")

  def other(teacher_logits, student_logits, tokens):
    return jnp.zeros(tokens.shape)

  with pytest.raises(ValueError, match="'forward_kl': .*registry has registered it"):
    losses.register_loss("forward_kl")(other)
