"""The documentation's build: `sphinx-build -n -W docs docs/_build/html`."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import glowgenius  # noqa: E402 - found in the checkout, whether it is installed or not

project = "glowgenius"
author = "The glowgenius authors"
project_copyright = author
version = release = glowgenius.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "docstrings",
    "layers",
    "public_names",
]
exclude_patterns = ["_build", "_ext"]

html_theme = "furo"
html_title = f"glowgenius {release}"
html_static_path: list[str] = []

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
# Every page is also read as it lies in the repository, so it has no directives where plain Markdown will do.
myst_url_schemes = ("http", "https", "mailto")

napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
# Annotations may name types that are not public, and those of other libraries; a public name that a page or a
# docstring refers to must have its entry.
nitpick_ignore_regex = [("py:.*", r"(?!glowgenius\.\w+$).*")]
