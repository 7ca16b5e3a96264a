"""The page in Gradio: text, budget, method; outputs while they are written.

Not here: what a person may bring (guard of serving/, doorway.py), looks of outputs (markup.py).
"""

from collections.abc import AsyncGenerator, Sequence
import contextlib
import hmac

import fastapi
import gradio as gr
from gradio.themes import Default, Font

from kdtw_jax.demo import markup, methods
from kdtw_jax.demo.doorway import Doorway
from kdtw_jax.demo.writing import Run, write
from kdtw_jax.pair import Pair
from kdtw_jax.reader import TextError
from kdtw_jax.serving.engine import BusyError, Engine
from kdtw_jax.serving.guard import Guard, Limits
from kdtw_jax.serving.lane import StoppedError

_BODY = 4 << 20  # bytes, so that the page can say of a megabyte that it is too long
_CHARACTERS = 20_000  # of a text that is read at all
_PEOPLE = 1000  # who are served at a time, or wait in the engine
_FONTS = [Font(name) for name in ("system-ui", "sans-serif")]  # nothing is fetched
_MONO = [Font(name) for name in ("ui-monospace", "monospace")]


class Demo:
  """What the page's button does."""

  def __init__(self, pair: Pair, engine: Engine):
    """Takes the engine, and its pair."""
    self._engine, self.offered = engine, methods.offered(pair)

  async def write(
      self, text: str, method: str, percent: float, words: str, form: str, beside: Sequence[str]
  ) -> AsyncGenerator[str]:
    """Gives the HTML of the outputs as they grow, or of what is wrong."""
    try:
      _check(text)
      budget = words.strip() or percent / 100
      names = dict.fromkeys([method, *(name for name in self.offered if name in beside)])
      runs = [
          Run(self.offered[name].title, methods.order(self._engine, name, budget, form))
          for name in names
      ]
      yield markup.table(runs)
      async with contextlib.aclosing(write(self._engine, text, runs)) as grown:
        async for _ in grown:
          yield markup.table(runs)
    except TextError as error:
      yield markup.problem(f"This text: {error.problem}.")
    except (ValueError, BusyError, StoppedError) as error:
      yield markup.problem(f"{error}.")


def _check(text: str) -> None:
  """Raises ValueError if there is nothing to read, or far too much."""
  if not text.strip():
    raise ValueError("There is no text: write one first")
  if len(text) > _CHARACTERS:
    raise ValueError(
        f"The text has {len(text):,} characters, this page reads at most {_CHARACTERS:,}: "
        "give a shorter one"
    )


def make_app(pair: Pair, engine: Engine, *, token: str | None = None) -> fastapi.FastAPI:
  """Makes the page.

  Args:
    pair: who writes.
    engine: writes with it; is started and closed by others.
    token: the password of everybody; None lets everybody in.
  """

  def knows(_: str, password: str) -> bool:
    return hmac.compare_digest(password.encode(), (token or "").encode())

  app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
  app.add_middleware(Guard, limits=Limits(body=_BODY), token=None)
  app.add_middleware(Doorway)
  return gr.mount_gradio_app(
      app,
      _page(pair, Demo(pair, engine)),
      path="/",
      auth=knows if token else None,
      auth_message="Any name, and the secret of this server.",
      css=markup.CSS,
      theme=Default(primary_hue="blue", font=_FONTS, font_mono=_MONO),
      footer_links=[],
      run_history=False,
      enable_monitoring=False,
      mcp_server=False,
      ssr_mode=False,
      pwa=False,
      max_file_size=1,
  )


def _page(pair: Pair, demo: Demo) -> gr.Blocks:
  choices = [(found.title, name) for name, found in demo.offered.items()]
  largest = round(100 * methods.largest(pair))
  with gr.Blocks(title=f"{pair.config['name']} · kdtw", analytics_enabled=False) as page:
    page.max_threads = _PEOPLE  # else 40 people would be served at a time
    gr.Markdown(
        "## A student that asks its teacher\n"
        "A small model writes, and asks a large one for help within your budget."
    )
    with gr.Row():
      with gr.Column(min_width=320):
        text = gr.Textbox(label="Text", lines=3, autofocus=True)
        percent = gr.Slider(
            *(0, largest, min(20, largest)),
            step=1,
            label="Budget, %",
            info="of the tokens, by the teacher; calls per 100 tokens where drafts are checked",
        )
        words = gr.Textbox(
            label="Budget in words, instead",
            placeholder="at most 10% of the tokens, at most 2 calls, ...",
        )
      with gr.Column(min_width=320):
        method = gr.Radio(choices, value="gate", label="Method")
        form = gr.Dropdown(
            [(title, name) for name, title in methods.FORMS.items()],
            value="share",
            label="The budget holds",
        )
        beside = gr.CheckboxGroup(choices, value=list(methods.COMPARED), label="Compare with")
    with gr.Row():
      button = gr.Button("Write", variant="primary", min_width=120)
      stop = gr.Button("Stop", min_width=120)
    gr.HTML(markup.LEGEND)
    outputs = gr.HTML()
    told = [text, method, percent, words, form, beside]
    writing = gr.on(
        [button.click, text.submit],
        demo.write,
        told,
        outputs,
        api_name="write",
        concurrency_limit=None,
        show_progress="hidden",
    )
    stop.click(None, cancels=[writing])
  return page.queue()
