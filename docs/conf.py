"""The docs site: ``make docs`` builds it into docs/_build/html, warnings are errors."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import make_reference  # noqa: E402

from sparring.version import __version__  # noqa: E402

make_reference.write(HERE / "reference")

project = "sparring"
author = "the sparring developers"
copyright = "the sparring developers"
version = release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"sparring {__version__}"
html_static_path = ["_static"]
html_theme_options = {"footer_icons": [], "top_of_page_buttons": []}
exclude_patterns = ["_build", "measured/README.md", "replay/*/*.json"]
# links out of the site, such as to folders: tests/test_docs.py follows each link in the checkout
suppress_warnings = ["myst.xref_missing"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
