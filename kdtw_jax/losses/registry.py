"""Registry of losses: the names that a stage's config section `losses` can give a weight.

A token loss compares teacher and student at each position. A sequence loss is made of what a whole
sequence scored: the log-probabilities of its tokens, and what follows them. To add your own, write
a function in a module that `config.plugins` names:

    @losses.register_loss("total_variation")
    def total_variation(teacher_logits, student_logits, tokens):
      return 0.5 * jnp.sum(jnp.abs(softmax(teacher_logits) - softmax(student_logits)), axis=-1)

    @losses.register_sequence_loss("reinforce")
    def reinforce(written):
      ...  # log_probs, teacher_log_probs, reverse_kl, mask, each [B, T]

and give it a weight: `config.distillation.losses.total_variation = {"weight": 1.0}`. `rows` says
which sequences it takes: "all", "on_policy" (the student wrote them) or "off_policy" (references,
or samples of the teacher). Any other key of that entry is passed to the function as a keyword
argument.

Shape letters: B batch, C chunk of positions, T target length, V vocabulary.
"""

from collections.abc import Callable, Mapping
import functools
import inspect
import math
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float

from kdtw_jax.losses import distillation

# (teacher_logits [B, C, V], student_logits [B, C, V], tokens [B, C], **options) -> [B, C] nats
TokenLoss = Callable[..., Float[Array, "B C"]]
# (Written, **options) -> [B, T] nats
SequenceLoss = Callable[..., Float[Array, "B T"]]

ROWS = ("all", "on_policy", "off_policy")


class Written(NamedTuple):
  """What a sequence loss sees of the sequences that a stage trains on; nats, float32.

  Attributes:
    log_probs: log π of each token, with gradient.
    teacher_log_probs: log μ of each token, without gradient.
    reverse_kl: KL(π‖μ) at the state of each token, with gradient.
    mask: True at the tokens of real rows, EOS included; a prefix of each row.
    teacher_mixing: probability with which the teacher wrote a token of an on-policy row.
  """

  log_probs: Float[Array, "B T"]
  teacher_log_probs: Float[Array, "B T"]
  reverse_kl: Float[Array, "B T"]
  mask: Bool[Array, "B T"]
  teacher_mixing: float


class Registered(NamedTuple):
  """A loss by name; `of_sequences` if it is a sequence loss."""

  fn: TokenLoss | SequenceLoss
  of_sequences: bool


class WeightedLoss(NamedTuple):
  """A loss with the weight, rows and options that a config gives it."""

  weight: float
  rows: str
  fn: TokenLoss | SequenceLoss
  of_sequences: bool


LOSSES: dict[str, Registered] = {}


def register_loss(name: str) -> Callable[[TokenLoss], TokenLoss]:
  """Registers a function as a token loss that configs can name.

  Args:
    name: name in a stage's `losses`.

  Returns:
    A decorator that returns the function unchanged.

  Raises:
    ValueError: if the name is taken or is not an identifier.
  """
  return functools.partial(_register, _free(name), of_sequences=False)


def register_sequence_loss(name: str) -> Callable[[SequenceLoss], SequenceLoss]:
  """Registers a function of `Written` as a loss that the configs of path consistency can name.

  Args:
    name: name in the `losses` of `distillation` or `wheels`.

  Returns:
    A decorator that returns the function unchanged.

  Raises:
    ValueError: if the name is taken or is not an identifier.
  """
  return functools.partial(_register, _free(name), of_sequences=True)


def _free(name: str) -> str:
  """Returns a name that can be one."""
  if not name.isidentifier():
    raise ValueError(f"loss {name!r}: must be a name of letters, digits and underscores")
  return name


def _register(name: str, fn: Callable, *, of_sequences: bool) -> Callable:
  """Registers a function under a name that no other module has taken."""
  taken = LOSSES.get(name)
  if taken is not None and taken.fn.__module__ != fn.__module__:
    raise ValueError(f"loss {name!r}: {taken.fn.__module__} has registered it; choose another name")
  LOSSES[name] = Registered(fn, of_sequences)
  return fn


def weighted_losses(
    section: Mapping[str, Mapping[str, Any]], *, field: str = "losses", of_sequences: bool = True
) -> dict[str, WeightedLoss]:
  """Returns a stage's losses of nonzero weight, with their options bound.

  Args:
    section: maps each name to `{"weight": w, "rows": rows, **options}`; no rows: all.
    field: name of the section in the config, for errors.
    of_sequences: True if the stage has sequences to take, written by the student.

  Returns:
    Each name with its weight, rows and a function, of teacher logits, student logits and tokens, or
    of `Written`.

  Raises:
    ValueError: if a name or an option is unknown, a weight is negative or not finite, or the stage
      has no sequences for a loss.
  """
  found = {}
  for name, entry in section.items():
    options = dict(entry)
    weight, rows = options.pop("weight", 0.0), options.pop("rows", "all")
    if name not in LOSSES:
      raise ValueError(
          f"{field}.{name}: unknown loss; registered are {', '.join(LOSSES)}. One of your own is "
          "registered by a module named in config.plugins"
      )
    if not (math.isfinite(weight) and weight >= 0):
      raise ValueError(f"{field}.{name}.weight={weight}: must be finite and >= 0")
    if rows not in ROWS:
      raise ValueError(f"{field}.{name}.rows={rows!r}: must be one of {', '.join(ROWS)}")
    registered = LOSSES[name]
    known = list(inspect.signature(registered.fn).parameters)[1 if registered.of_sequences else 3 :]
    unknown = [option for option in options if option not in known]
    if unknown:
      raise ValueError(
          f"{field}.{name}.{unknown[0]}: unknown option; it has {', '.join(known) or 'none'}"
      )
    if weight and not of_sequences and (registered.of_sequences or rows != "all"):
      raise ValueError(
          f"{field}.{name}: takes sequences that the student wrote, and this stage reads "
          "references alone: give it a weight in config.distillation.losses"
      )
    if weight:
      loss = functools.partial(registered.fn, **options)
      found[name] = WeightedLoss(weight, rows, loss, registered.of_sequences)
  return found


@register_loss("cross_entropy")
def _cross_entropy(teacher_logits, student_logits, tokens, *, label_smoothing: float = 0.0):
  """Computes the cross-entropy of the tokens; ignores the teacher."""
  del teacher_logits
  return distillation.cross_entropy(student_logits, tokens, label_smoothing=label_smoothing)


@register_loss("forward_kl")
def _forward_kl(teacher_logits, student_logits, tokens):
  """Computes KL(μ‖π)."""
  del tokens
  return distillation.forward_kl(teacher_logits, student_logits)


@register_loss("reverse_kl")
def _reverse_kl(teacher_logits, student_logits, tokens):
  """Computes KL(π‖μ)."""
  del tokens
  return distillation.reverse_kl(teacher_logits, student_logits)


@register_loss("generalized_jsd")
def _generalized_jsd(teacher_logits, student_logits, tokens, *, beta: float = 0.5):
  """Computes JSD_β."""
  del tokens
  return distillation.generalized_jsd(teacher_logits, student_logits, beta=beta)
