"""An endless English-German phrasebook made from CLDR data: text with known difficulty."""

from kdtw_jax.data.phrasebook.source import PhrasebookSource as PhrasebookSource
