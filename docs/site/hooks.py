"""MkDocs hooks: which files of the repository are pages, and the pages made from docstrings.

The site mirrors the repository: ``docs/verdict.md`` is ``docs/verdict.html``, ``README.md`` is
``index.html``. So a relative link works wherever a page is read, and none is rewritten.
"""

import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "docs/*.md", "benchmarks/results/*.md")
LINK = re.compile(r"\]\(([^)#?:\s]+)")
REFERENCE = "reference"


def on_config(config):
    """Add to the navigation what is found: pages that it does not name, and the reference."""
    known = set(re.findall(r"[\w/]+\.md", str(config.nav)))
    if found := [page for page in pages() if page not in known]:
        config.nav.append({"More": found})
    config.nav.append(
        {"Reference": [{title: place(title)} for title in contents(config.extra[REFERENCE])]}
    )
    return config


def on_files(files, config):
    """The site's files: pages, what they link to in the repository, and the reference."""
    kept = [file for file in files if file.src_dir != config.docs_dir]  # the theme's own
    found = [
        File(path, str(ROOT), config.site_dir, config.use_directory_urls)
        for path in [*pages(), *linked(pages())]
    ]
    made = [
        File.generated(config, place(title), content=page(title, names))
        for title, names in contents(config.extra[REFERENCE]).items()
    ]
    return Files([*kept, *found, *made])


def pages():
    """Paths of the pages in the repository, from its root."""
    found = [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    return [path.relative_to(ROOT).as_posix() for path in found]


def linked(paths):
    """Paths of the files that pages link to, or show, and that are no pages."""
    found = set()
    for path in paths:
        source = ROOT / path
        for target in LINK.findall(source.read_text(encoding="utf-8")):
            there = (source.parent / target).resolve()
            if there.is_file() and there.is_relative_to(ROOT):
                found.add(there.relative_to(ROOT).as_posix())
    return sorted(found - set(paths))


def contents(reference):
    """Titles of the reference's pages, each with the names of what it documents.

    A backend is what the suite takes for one: a folder with requirements.
    """
    backends = sorted(path.parent.name for path in ROOT.glob("backends/*/requirements.txt"))
    return reference | {
        f"backends.{name}": [f"framework_parity.backends.{name}"] for name in backends
    }


def place(title):
    """Where a page of the reference is."""
    return f"{REFERENCE}/{re.sub(r'[^a-z.]+', '-', title.lower())}.md"


def page(title, names):
    """A page of the reference, in Markdown."""
    alone = "" if len(names) > 1 else "\n    options:\n      show_root_heading: false"
    return "\n\n".join([f"# {title}", *(f"::: {name}{alone}" for name in names)]) + "\n"
