"""Weights of ours in transformers' T5, with greedy `generate` to the same length: for decode.py."""

import importlib.metadata

import numpy as np

from kdtw_jax.base import Params
from kdtw_jax.models import Model


class Peer:
  """The same weights in transformers' T5, with greedy `generate` to the same length."""

  def __init__(
      self, pair: tuple[Model, Model], params: tuple[Params, Params], dtype: str, length: int
  ):
    import torch
    import transformers

    from kdtw_jax.published import export_weights

    self.torch, self.length = torch, length
    self.models = []
    for model, own in zip(pair, params, strict=True):
      c = model.config
      config = transformers.T5Config(
          vocab_size=c.vocab_size,
          d_model=c.d_model,
          d_kv=c.d_kv,
          d_ff=c.d_ff,
          num_layers=c.num_encoder_layers,
          num_decoder_layers=c.num_decoder_layers,
          num_heads=c.num_heads,
          feed_forward_proj=c.feed_forward,
          tie_word_embeddings=c.tie_embeddings,
          decoder_start_token_id=0,
          dropout_rate=0.0,
      )
      peer = transformers.T5ForConditionalGeneration(config).eval()
      weights = {name: torch.tensor(array) for name, array in export_weights(own, c)}
      peer.load_state_dict(weights, strict=False)
      peer = peer.to(getattr(torch, dtype))
      peer.generation_config.eos_token_id = None
      self.models.append(peer.to("cuda") if torch.cuda.is_available() else peer)
    self.versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}

  def call(self, source: np.ndarray, who: int, *, assisted: bool = False):
    """Makes a function that generates, waits and returns the tokens; `who` is 0 for the student."""
    source = self.torch.tensor(source, dtype=self.torch.long)
    source = source.to(self.models[who].device)
    mask = self.torch.ones_like(source)
    always = {"assistant_model": self.models[0]} if assisted else {}

    def run(_, **more):
      with self.torch.inference_mode():
        out = self.models[who].generate(
            input_ids=source,
            attention_mask=mask,
            do_sample=False,
            num_beams=1,
            max_new_tokens=self.length,
            **always,
            **more,
        )
      return out[:, 1:].cpu().numpy()

    return run
