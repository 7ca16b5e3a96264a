"""Losses of single tokens by name: what the section `losses` of a stage may weigh.

A token loss compares the two distributions at each position, on whatever sequences the stage trains
on. One of your own is a function in a module of your own, named in `config.plugins`:

    @losses.register_loss("total_variation")
    def total_variation(teacher_logits, student_logits, tokens):
      return 0.5 * jnp.sum(jnp.abs(softmax(teacher_logits) - softmax(student_logits)), axis=-1)

and a weight in the config: `config.warm_start.losses.total_variation = {"weight": 1.0}`. Further
keys of that entry are keyword arguments of the function.

Shape letters: B batch, C chunk of positions, V vocabulary.
"""

from collections.abc import Callable, Mapping
import functools
import inspect
import math
from typing import Any

from jaxtyping import Array, Float

from kdtw_jax.losses import distillation

# (teacher_logits [B, C, V], student_logits [B, C, V], tokens [B, C], **options) -> [B, C] nats
TokenLoss = Callable[..., Float[Array, "B C"]]

TOKEN_LOSSES: dict[str, TokenLoss] = {}


def register_loss(name: str) -> Callable[[TokenLoss], TokenLoss]:
  """Makes a function known to configs as a token loss.

  Args:
    name: its name in a stage's `losses`.

  Returns:
    A decorator that gives the function back unchanged.

  Raises:
    ValueError: the name is taken or is no identifier.
  """
  if not name.isidentifier():
    raise ValueError(f"loss {name!r}: must be a name of letters, digits and underscores")

  def register(fn: TokenLoss) -> TokenLoss:
    taken = TOKEN_LOSSES.get(name)
    if taken is not None and taken.__module__ != fn.__module__:
      raise ValueError(f"loss {name!r}: {taken.__module__} has registered it; choose another name")
    TOKEN_LOSSES[name] = fn
    return fn

  return register


def weighted_losses(
    section: Mapping[str, Mapping[str, Any]], *, field: str = "losses"
) -> dict[str, tuple[float, TokenLoss]]:
  """The losses of a stage that have a weight, their options bound.

  Args:
    section: name -> `{"weight": w, **options}`.
    field: its place in the config, for errors.

  Returns:
    name -> (weight, function of teacher logits, student logits and tokens).

  Raises:
    ValueError: an unknown name or option, or a weight that is negative or not finite.
  """
  found = {}
  for name, entry in section.items():
    options = dict(entry)
    weight = options.pop("weight", 0.0)
    if name not in TOKEN_LOSSES:
      raise ValueError(
          f"{field}.{name}: unknown loss; registered are {', '.join(TOKEN_LOSSES)}. One of your own"
          " is registered by a module named in config.plugins"
      )
    if not (math.isfinite(weight) and weight >= 0):
      raise ValueError(f"{field}.{name}.weight={weight}: must be finite and >= 0")
    known = list(inspect.signature(TOKEN_LOSSES[name]).parameters)[3:]
    unknown = [option for option in options if option not in known]
    if unknown:
      raise ValueError(
          f"{field}.{name}.{unknown[0]}: unknown option; it has {', '.join(known) or 'none'}"
      )
    if weight:
      found[name] = (weight, functools.partial(TOKEN_LOSSES[name], **options))
  return found


@register_loss("cross_entropy")
def _cross_entropy(teacher_logits, student_logits, tokens):
  """Of the tokens themselves; nothing of the teacher."""
  del teacher_logits
  return distillation.cross_entropy(student_logits, tokens)


@register_loss("forward_kl")
def _forward_kl(teacher_logits, student_logits, tokens):
  """KL(μ‖π)."""
  del tokens
  return distillation.forward_kl(teacher_logits, student_logits)


@register_loss("reverse_kl")
def _reverse_kl(teacher_logits, student_logits, tokens):
  """KL(π‖μ)."""
  del tokens
  return distillation.reverse_kl(teacher_logits, student_logits)


@register_loss("generalized_jsd")
def _generalized_jsd(teacher_logits, student_logits, tokens, *, beta: float = 0.5):
  """JSD_β."""
  del tokens
  return distillation.generalized_jsd(teacher_logits, student_logits, beta=beta)
