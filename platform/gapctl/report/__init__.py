"""Reports for people: figures, HTML pages that open without a network, Markdown and LaTeX."""
