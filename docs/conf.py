"""Sphinx: the pages in Markdown, the Python interface from docstrings."""

from importlib import metadata

project = "katib-flow"
release = metadata.version("katib-flow")
copyright = "the katib-flow authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = "katib-flow"
exclude_patterns = []
