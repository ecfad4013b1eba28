"""Damages to a record, and a worker that leaves a damaged one.

``python -m tests.damage DAMAGE[@PATTERN] BACKEND …`` is the worker of that backend, whatever the
further arguments name, and then does the damage: to records alone whose folder fits the pattern.
"""

import fnmatch
import json
import sys
from dataclasses import replace

import numpy as np

from tests import workers


def change_facts(folder, change):
    path = folder / "record.json"
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


def change_arrays(folder, change):
    path = folder / "arrays.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    change(arrays)
    np.savez(path, **arrays)


def rubbish(folder):
    (folder / "arrays.npz").write_bytes(b"rubbish")


def cut_off(folder):
    path = folder / "arrays.npz"
    path.write_bytes(path.read_bytes()[:-100])


def no_facts(folder):
    (folder / "record.json").unlink()


def no_arrays(folder):
    (folder / "arrays.npz").unlink()


def facts_no_json(folder):
    (folder / "record.json").write_text("{")


def facts_no_object(folder):
    (folder / "record.json").write_text("[]")


def newer_schema(folder):
    change_facts(folder, lambda facts: facts.update(schema=facts["schema"] + 1))


def other_plan(folder):
    change_facts(folder, lambda facts: facts.update(plan_sha256="0" * 64))


def no_versions(folder):
    change_facts(folder, lambda facts: facts.pop("versions"))


def other_release(folder):
    """Of whatever trained."""

    def change(facts):
        facts["versions"] = dict.fromkeys(facts["versions"], "0.0.1")

    change_facts(folder, change)


def no_release(folder):
    change_facts(folder, lambda facts: facts.update(versions={"python": "3.11"}))


def other_backend(folder):
    change_facts(folder, lambda facts: facts.update(backend="another"))


def other_implementation(folder):
    change_facts(folder, lambda facts: facts.update(implementation="another"))


def history_of_words(folder):
    change_facts(folder, lambda facts: facts["history"].update(val_loss=["small", "smaller"]))


def history_not_finite(folder):
    change_facts(folder, lambda facts: facts["history"].update(val_loss=[0.5, float("nan")]))


def history_no_list(folder):
    change_facts(folder, lambda facts: facts["history"].update(val_loss=0.5))


def no_seconds(folder):
    change_facts(folder, lambda facts: facts.update(seconds={}))


def seconds_not_finite(folder):
    change_facts(folder, lambda facts: facts["seconds"].update(fit=float("inf")))


def memory_of_words(folder):
    change_facts(folder, lambda facts: facts.update(peak_rss_bytes="much"))


def objects(folder):
    change_arrays(folder, lambda arrays: arrays.update(step_loss=np.array([{}])))


def words(folder):
    change_arrays(folder, lambda arrays: arrays.update(step_loss=np.array(["small"])))


def not_finite(folder):
    def change(arrays):
        arrays["parameters/W"][-1, 0, 0] = np.nan

    change_arrays(folder, change)


DAMAGES = {
    damage.__name__: damage
    for damage in (
        rubbish,
        cut_off,
        no_facts,
        no_arrays,
        facts_no_json,
        facts_no_object,
        newer_schema,
        other_plan,
        no_versions,
        history_of_words,
        history_not_finite,
        history_no_list,
        no_seconds,
        seconds_not_finite,
        memory_of_words,
        objects,
        words,
        not_finite,
    )
}

OF_ANOTHER_ROW = {
    damage.__name__: damage
    for damage in (other_release, no_release, other_backend, other_implementation)
}
"""What leaves a sound record, but not of the row that it is read for."""


def main():
    """The worker."""
    damage, backend, *arguments = sys.argv[1:]
    damage, _, pattern = damage.partition("@")

    def damaged(go_on, _, request):
        replace(request, fields=request.fields | {"backend": backend}).write()
        go_on()
        if fnmatch.fnmatch(str(request.record), pattern or "*"):
            (DAMAGES | OF_ANOTHER_ROW)[damage](request.record)

    workers.run(arguments, damaged)


if __name__ == "__main__":
    main()
