"""How the site is built: `bash launch/docs.sh`, without a network and without running anything.

Pages include README.md, CONTRIBUTING.md, CHANGELOG.md, the page on policies and the tables of
results/ instead of repeating them. `notebooks/` holds links to the notebooks, which are shown with
the outputs that they were committed with.
"""

from pathlib import Path
import sys

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent)]

project = "kdtw_jax"
author = ""
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "house_docstrings",
    "mathml",
    "repository_links",
]
exclude_patterns = ["_build"]

html_theme = "sphinx_book_theme"
html_title = "kdtw_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_theme_options = {"show_toc_level": 2, "use_download_button": False, "navbar_persistent": []}
html_copy_source = False
html_show_copyright = False

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"

autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # house_docstrings adds them
python_display_short_literal_types = True
python_maximum_signature_line_length = 88
add_module_names = False

# Names of other libraries stay plain: their pages are not looked up, so that no build needs a
# network. Names of this package must exist.
nitpick_ignore_regex = [("py:.*", r"(?!kdtw_jax\.).*")]
