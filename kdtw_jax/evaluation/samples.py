"""Sample outputs for the report: who wrote each token, and what each model writes alone."""

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
  """Collects the first sentences of a split, without EOS.

  Args:
    examples: the first examples of the split, as many as wanted.
    outputs: the handover's outputs on that split.
    student: outputs of the student alone.
    teacher: outputs of the teacher alone.
    tokenizer: the tokenizer of all outputs.
    budget: the handover's budget, 0..1.
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
