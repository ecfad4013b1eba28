"""The backends, their versions and where the interpreter of each one is.

examples:
  compare.py list
  compare.py list --json
"""

from __future__ import annotations

import json

from framework_parity.common.commands.options import ListOptions, takes
from framework_parity.common.core.standard_output import say
from framework_parity.common.environments.discovery import choose, discover, find_environment
from framework_parity.common.report.facts import EXIT_AGREE


@takes(ListOptions)
def list_backends(options: ListOptions) -> int:
    """Print the backends; nothing is built."""
    found = discover()
    choose(options.named, found)
    rows = []
    for backend in found.values():
        environment = find_environment(backend, options.named.get(backend.name), build=False)
        rows.append(
            {
                "name": backend.name,
                "implementations": list(backend.implementations),
                "version": environment.version or backend.pinned_version,
                "python": None if environment.python is None else str(environment.python),
            }
        )
    if options.json:
        print(json.dumps({"backends": rows}, indent=1))
        return EXIT_AGREE
    for row in rows:
        implementations = ", ".join(row["implementations"] or ())
        python = row["python"] or "(not built yet: compare.py setup)"
        say(f"{row['name']:<12} {row['version']:<10} {implementations:<18} {python}")
    return EXIT_AGREE
