"""Weights of ours in other engines: for decode.py their greedy decoding, for train.py the models.

Needs torch, and ctranslate2 for the class of its name: the extra `parity`.
"""

import importlib.metadata
from pathlib import Path
import tempfile

import numpy as np

from kdtw_jax.base import EOS_ID, PAD_ID, Params
from kdtw_jax.models import Model
from kdtw_jax.published import config_json, export_weights


class Peer:
  """The same weights in transformers, with greedy `generate` to the same length."""

  def __init__(
      self, pair: tuple[Model, Model], params: tuple[Params, Params], dtype: str, length: int
  ):
    import torch
    import transformers

    self.torch, self.length = torch, length
    self.models, self.are_causal = [], [model.config.kind == "causal" for model in pair]
    for model, own, is_causal in zip(pair, params, self.are_causal, strict=True):
      fields = config_json(model.config) | {"dropout_rate": 0.0}
      config = transformers.AutoConfig.for_model(**fields)
      auto = transformers.AutoModelForCausalLM if is_causal else transformers.AutoModelForSeq2SeqLM
      peer = auto.from_config(config).eval()
      weights = {name: torch.tensor(array) for name, array in export_weights(own, model.config)}
      peer.load_state_dict(weights, strict=False)
      peer.tie_weights()
      peer = peer.to(getattr(torch, dtype))
      peer.generation_config.eos_token_id = None
      self.models.append(peer.to("cuda") if torch.cuda.is_available() else peer)
    self.versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}

  def call(self, source: np.ndarray, who: int, *, assisted: bool = False):
    """Makes a function that generates, waits and returns the tokens; `who` is 0 for the student."""
    if self.are_causal[who]:  # our prompt: the source without its last token, its end, a start
      source = np.pad(source[:, :-1], ((0, 0), (0, 1)), constant_values=EOS_ID)
      source = np.pad(source, ((0, 0), (0, 1)), constant_values=PAD_ID)
    source, start = self.torch.tensor(source, dtype=self.torch.long), 1
    if self.are_causal[who]:
      start = source.shape[1]
    source = source.to(self.models[who].device)
    mask = self.torch.ones_like(source)
    always = {"assistant_model": self.models[0]} if assisted else {}

    def run(_, silent: tuple[int, ...] = ()):
      with self.torch.inference_mode():
        out = self.models[who].generate(
            input_ids=source,
            attention_mask=mask,
            do_sample=False,
            num_beams=1,
            max_new_tokens=self.length,
            suppress_tokens=[*silent] or None,
            **always,
        )
      return out[:, start:].cpu().numpy()

    return run


class CTranslate2:
  """The same weights in CTranslate2, with greedy decoding to the same length; T5 alone."""

  def __init__(self, peer: Peer):
    import ctranslate2
    import tokenizers
    import transformers

    self.engine, self.length = ctranslate2, peer.length
    self.version = importlib.metadata.version("ctranslate2")
    self._folders = tempfile.TemporaryDirectory(prefix="converted-")
    self.folders = []
    for number, model in enumerate(peer.models):
      exported, converted = (Path(self._folders.name, f"{kind}{number}") for kind in ("hf", "ct2"))
      model.save_pretrained(exported)
      names = {self._name(i): i for i in range(model.config.vocab_size)}
      words = tokenizers.Tokenizer(tokenizers.models.WordLevel(names, unk_token=self._name(2)))
      special = {
          f"{kind}_token": self._name(i)
          for kind, i in (("pad", PAD_ID), ("eos", EOS_ID), ("unk", 2))
      }
      transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(
          exported
      )
      self.engine.converters.TransformersConverter(str(exported)).convert(str(converted))
      self.folders.append(converted)

  @staticmethod
  def _name(token: int) -> str:
    return f"t{token}"

  def call(self, source: np.ndarray, who: int, *, compute_type: str, threads: int):
    """Makes a function that decodes and returns the tokens; `who` is 0 for the student."""
    translator = self.engine.Translator(
        str(self.folders[who]), compute_type=compute_type, intra_threads=threads
    )
    texts = [[self._name(token) for token in row] for row in source]

    def run(_, silent: tuple[int, ...] = ()):
      found = translator.translate_batch(
          texts,
          beam_size=1,
          min_decoding_length=self.length,
          max_decoding_length=self.length,
          suppress_sequences=[[self._name(token)] for token in silent] or None,
      )
      return np.array([[int(name[1:]) for name in each.hypotheses[0]] for each in found])

    return run
