"""Sample outputs of the report: who wrote each token, and what each would have written alone."""

from collections.abc import Sequence

from kdtw_jax.data import AnyTokenizer, Example
from kdtw_jax.evaluation.difficulty import EOS_PIECE
from kdtw_jax.evaluation.outputs import Outputs
from kdtw_jax.evaluation.record import Sample, Token


def samples(
    examples: Sequence[Example],
    outputs: Outputs,
    *,
    student: Outputs,
    teacher: Outputs,
    tokenizer: AnyTokenizer,
    budget: float,
) -> tuple[Sample, ...]:
  """Lays out the first sentences of a split, EOS left out.

  Args:
    examples: as many as wanted, from the first of the split on.
    outputs: of the handover on that split.
    student: what the student writes alone.
    teacher: what the teacher writes alone.
    tokenizer: of all.
    budget: what the handover was allowed, 0..1.
  """
  return tuple(
      Sample(
          source=example.source,
          reference=example.target,
          budget=budget,
          student=student.texts[i],
          teacher=teacher.texts[i],
          tokens=tuple(
              Token(piece, "teacher" if by_teacher else "student")
              for piece, by_teacher in zip(
                  tokenizer.pieces(outputs.ids[i]), outputs.by_teacher[i], strict=True
              )
              if piece != EOS_PIECE
          ),
      )
      for i, example in enumerate(examples)
  )
