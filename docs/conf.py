"""Settings of the documentation site; `make docs` builds it into build/site."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger
from sphinx.writers.html5 import HTML5Translator

import restore

EXAMPLES = Path(__file__).parent / "gallery_examples"
# What the examples share.
sys.path.insert(0, str(EXAMPLES))

project = "restore"
author = "the authors of restore"
copyright = "the authors of restore"
version = release = restore.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["gallery_examples", "auto_gallery/**/*.ipynb", "static"]
# Single backticks in docstrings are names: links where the site has them, else code.
default_role = "py:obj"
# Most blocks without a language are commands and formulae.
highlight_language = "none"
# Dashes only: field lists need them, and quotation marks stay as they are written.
smartquotes_action = "D"
maximum_signature_line_length = 60

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

autodoc_typehints_format = "short"
toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

sphinx_gallery_conf = {
    "examples_dirs": str(EXAMPLES),
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"(figures|gallery_pictures)\.py$",
    "subsection_order": ["gallery_examples/tasks", "gallery_examples/solvers"],
    "thumbnail_size": (720, 240),
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "write_computation_times": False,
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "min_reported_time": 0,
}

# Browsers show MathML by themselves; MathJax would come from another server.
html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "restore"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
# These have no section beside them.
html_sidebars = {"index": [], "tutorial": []}
html_theme_options = {
    "logo": {"text": "restore"},
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "navigation_with_keys": False,
    "show_prev_next": True,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}

# Files outside this folder that have a page here.
_PAGES = {
    "../pretrained/weights/default.md": "model-card.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changelog.md",
    "../SECURITY.md": "security.md",
}


def link_to_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    """Lead links that leave this folder to the pages that include their targets."""
    for path, page in _PAGES.items():
        source[0] = source[0].replace(f"]({path}", f"]({page}")


def escape_shapes(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Keep the star of shapes such as ``[B, *output_shape]`` from starting an emphasis."""
    lines[:] = [
        re.sub(r"\[[^]`]*\]", lambda shape: shape[0].replace("*", "\\*"), each) for each in lines
    ]


def name_functions(
    app: Sphinx,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    signature: str | None,
    returned: str | None,
) -> tuple[str | None, str | None]:
    """Show defaults that are functions by their names."""
    return signature and re.sub(r"<(?:built-in )?function (\w+).*?>", r"\1", signature), returned


def skip_fields(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out fields of named tuples, which the docstring of their class describes."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field") else None


def mathml(formula: nodes.Element, display: str) -> str:
    """Return a formula as MathML, and warn of commands that are not understood."""
    written = convert(formula.astext().replace(r"\arg", r"\mathrm{arg}\,"), display=display)
    if "\\" in written:
        getLogger(__name__).warning("unknown command in %s", formula.astext(), location=formula)
    return written


def write_formula(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula in a line."""
    translator.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def write_equation(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula in a line of its own."""
    translator.body.append(f'<div class="equation">{mathml(node, "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register the above."""
    app.add_html_math_renderer("mathml", (write_formula, None), (write_equation, None))
    app.connect("source-read", link_to_pages)
    app.connect("autodoc-process-docstring", escape_shapes)
    app.connect("autodoc-process-signature", name_functions)
    app.connect("autodoc-skip-member", skip_fields)
