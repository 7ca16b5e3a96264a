"""The project's data input: sources -> tokenizer -> budget prompts -> grain pipeline."""

from kdtw_jax.data.example import Example as Example
from kdtw_jax.data.example import Source as Source
from kdtw_jax.data.joined import JoinedSource as JoinedSource
from kdtw_jax.data.lengths import shortest_output as shortest_output
from kdtw_jax.data.pipeline import TrainingPlan as TrainingPlan
from kdtw_jax.data.pipeline import encode_task as encode_task
from kdtw_jax.data.pipeline import eval_batches as eval_batches
from kdtw_jax.data.pipeline import instruction_length as instruction_length
from kdtw_jax.data.pipeline import train_batches as train_batches
from kdtw_jax.data.prompts import HELD_OUT_WORDINGS as HELD_OUT_WORDINGS
from kdtw_jax.data.prompts import TRAIN_WORDINGS as TRAIN_WORDINGS
from kdtw_jax.data.prompts import Wording as Wording
from kdtw_jax.data.prompts import render as render
from kdtw_jax.data.prompts import tokenizer_text as tokenizer_text
from kdtw_jax.data.published_tokenizer import AnyTokenizer as AnyTokenizer
from kdtw_jax.data.published_tokenizer import PublishedTokenizer as PublishedTokenizer
from kdtw_jax.data.published_tokenizer import check_same_vocabulary as check_same_vocabulary
from kdtw_jax.data.published_tokenizer import load_tokenizer as load_tokenizer
from kdtw_jax.data.sources import load_split as load_split
from kdtw_jax.data.stated import Stated as Stated
from kdtw_jax.data.stated import state_budget as state_budget
from kdtw_jax.data.stated import stated_calls as stated_calls
from kdtw_jax.data.tokenised import TokenisedSplit as TokenisedSplit
from kdtw_jax.data.tokenised import tokenise as tokenise
from kdtw_jax.data.tokenizer import Tokenizer as Tokenizer
from kdtw_jax.data.tokenizer import train_tokenizer as train_tokenizer
