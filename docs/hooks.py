"""Hooks of the documentation site: pages from the repository's root, and links from pages to files of the repository.

A page links to other files by relative paths, as GitHub wants them. Links that leave docs/ become addresses below
`repo_url`. A link to a file that does not exist is a warning, which `mkdocs build --strict` turns into a failure.
"""

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
ROOT_PAGES = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|<)([^)\s]+)(?=\))")
FENCE = re.compile(r"^\s*(```|~~~)")

log = logging.getLogger("mkdocs.plugins.repository_links")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie at the repository's root."""
    for page, source in ROOT_PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Rewrite the relative links of one page, except in code blocks."""
    uri = page.file.src_uri
    source = ROOT_PAGES.get(uri, f"docs/{uri}")
    lines, in_code = [], False
    for line in markdown.split("\n"):
        in_code ^= bool(FENCE.match(line))
        lines.append(line if in_code else LINK.sub(lambda found: rewrite_link(found[1], source, uri, config), line))
    return "\n".join(lines)


def rewrite_link(link: str, source: str, uri: str, config: Any) -> str:
    """Return what a link in the file `source`, shown as page `uri`, is on the site."""
    path, hash_mark, anchor = link.partition("#")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if not (ROOT / target).exists():
        log.warning("%s links to %s, which does not exist", source, link)
        return link
    if target.startswith("docs/") and (ROOT / target / "README.md").exists():
        target += "/README.md"
    page = next((page for page, root in ROOT_PAGES.items() if root == target), target.removeprefix("docs/"))
    if page == target or target.endswith((".py", ".sh", "Dockerfile")):
        kind = "tree" if (ROOT / target).is_dir() else "blob"
        return f"{config.repo_url.rstrip('/')}/{kind}/main/{target}{hash_mark}{anchor}"
    return posixpath.relpath(page, posixpath.dirname(uri) or ".") + hash_mark + anchor
