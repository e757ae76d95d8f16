"""Configuration of Sphinx: `sphinx-build -W -n --keep-going docs docs/_build/html`."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

from requestor_sdk import __version__  # noqa: E402

project = "requestor_sdk"
author = "The requestor_sdk developers"
copyright = "The requestor_sdk developers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated"]
exclude_patterns = ["_build", "_ext"]
myst_enable_extensions = ["deflist", "fieldlist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"requestor_sdk {version}"
html_static_path = ["_static"]
html_css_files = ["extra.css"]
html_show_sphinx = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# Types of the standard library and of modules that are no public face are named, not linked; so are
# errors, which have a page of their own.
nitpick_ignore_regex = [
    ("py:.*", r"(?!requestor_sdk\.).*"),
    ("py:class", r"requestor_sdk\.errors\..*"),
    ("py:.*", r"requestor_sdk\.(client|engine|model|observe|ports|provider|service|settings)\..*"),
    ("py:.*", r"requestor_sdk\.(clock|devnet|networks|handlers|testing\.handlers|worker)\..*"),
]
