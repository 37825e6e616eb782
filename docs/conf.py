"""Sphinx: the pages in Markdown, the Python interface from docstrings."""

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "katib-flow"
release = metadata.version("katib-flow")
copyright = "the katib-flow authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "spec_keys"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = "katib-flow"
exclude_patterns = []
