"""How Sphinx builds the pages.

Why Sphinx with MyST and the theme Furo: Material for MkDocs calls itself inactive, MkDocs has had no release since
2024, and Material's successor Zensical is a compiled program that was an alpha until recently and still changes its
formats. Sphinx is maintained and pure Python, so ``pip install .`` works wherever Python does, and it fails on broken
links if told so. Furo loads no fonts and no scripts from elsewhere. The search works from a folder without a server.
"""

from archsim._version import __version__

project = "archsim"
author = "The archsim developers"
project_copyright = "the archsim developers; MIT licence"
release = version = __version__
extensions = ["myst_parser"]
myst_enable_extensions = ["attrs_inline", "deflist"]
myst_heading_anchors = 4
myst_disable_syntax = ["myst_line_comment"]  # a line may begin with a percent sign
smartquotes = False
html_theme = "furo"
html_title = f"archsim {__version__}"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["archsim.css"]
