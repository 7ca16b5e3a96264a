"""Sample outputs of the report: who wrote each token, and what each would have written alone."""

from collections.abc import Mapping, Sequence

from kdtw_jax.data import AnyTokenizer, Example
from kdtw_jax.evaluation.difficulty import EOS_PIECE
from kdtw_jax.evaluation.outputs import Outputs


def sample_rows(
    examples: Sequence[Example],
    outputs: Outputs,
    alone: Mapping[str, Outputs],
    tokenizer: AnyTokenizer,
    *,
    budget: float,
) -> list[dict]:
  """Lays out the first sentences of a split.

  Args:
    examples: as many as wanted, from the first of the split on.
    outputs: of the handover on that split.
    alone: outputs of `student` and `teacher` on it.
    tokenizer: of all.
    budget: what the handover was allowed, 0..1.

  Returns:
    `{"source", "reference", "budget", "student", "teacher", "tokens"}` per sentence; `tokens` are
    `{"text", "author"}`, EOS left out.
  """
  rows = []
  for i, example in enumerate(examples):
    pieces = tokenizer.pieces(outputs.ids[i])
    rows.append(
        {
            "source": example.source,
            "reference": example.target,
            "budget": budget,
            **{who: found.texts[i] for who, found in alone.items()},
            "tokens": [
                {"text": piece, "author": "teacher" if teacher else "student"}
                for piece, teacher in zip(pieces, outputs.by_teacher[i], strict=True)
                if piece != EOS_PIECE
            ],
        }
    )
  return rows
