"""The documentation site: `make docs` builds it into build/docs/site."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
XML = ROOT / "build/docs/doxygen/xml"

project = "lgreco"
version = release = (ROOT / "VERSION").read_text().strip()
copyright = "the authors of lgreco. Licence: Apache-2.0"

extensions = [
    "breathe",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]

# Pages in Markdown.
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# Docstrings: a word in single backticks is code.
napoleon_use_ivar = True  # attributes that nothing links to: a `bytes` is in the way of the type
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"

# Headers: doxygen reads them, breathe shows them.
breathe_projects = {"lgreco": str(XML)}
breathe_default_project = "lgreco"

html_theme = "furo"
pygments_style = "default"  # which colours what a diff adds
html_title = f"lgreco {version}"
html_show_sphinx = False
