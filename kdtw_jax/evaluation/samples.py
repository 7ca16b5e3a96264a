"""Sample outputs for the report: who wrote each token, and what each model writes alone."""

from collections.abc import Mapping, Sequence

from kdtw_jax.data import AnyTokenizer, Example
from kdtw_jax.evaluation.difficulty import EOS_PIECE
from kdtw_jax.evaluation.outputs import Outputs
from kdtw_jax.evaluation.record import Sample, SampleOutput, Token


def samples(
    examples: Sequence[Example],
    outputs: Mapping[float, Outputs],
    *,
    student: Outputs,
    teacher: Outputs,
    tokenizer: AnyTokenizer,
) -> tuple[Sample, ...]:
  """Collects the first sentences of a split, without EOS.

  Args:
    examples: the first examples of the split, as many as wanted.
    outputs: the handover's outputs on that split, by budget.
    student: outputs of the student alone.
    teacher: outputs of the teacher alone.
    tokenizer: the tokenizer of all outputs.
  """
  return tuple(
      Sample(
          source=example.source,
          reference=example.target,
          student=student.texts[i],
          teacher=teacher.texts[i],
          outputs=tuple(
              SampleOutput(
                  budget=float(budget),
                  calls=int(outputs[budget].counts["teacher_calls"][i]),
                  tokens=_tokens(outputs[budget], i, tokenizer),
              )
              for budget in sorted(outputs)
          ),
      )
      for i, example in enumerate(examples)
  )


def _tokens(outputs: Outputs, row: int, tokenizer: AnyTokenizer) -> tuple[Token, ...]:
  pieces = zip(tokenizer.pieces(outputs.ids[row]), outputs.by_teacher[row], strict=True)
  return tuple(
      Token(piece, "teacher" if by_teacher else "student")
      for piece, by_teacher in pieces
      if piece != EOS_PIECE
  )
