"""Griffe extensions: what docstrings need to be read without importing anything."""

import re

import griffe

ROLE = re.compile(r":(?:class|meth|func|data|mod|attr):`~?([^`]+)`")


class Roles(griffe.Extension):
    """Turns Sphinx's roles, which Markdown does not know, into code."""

    def on_instance(self, *, obj, **_):
        """Called for every object that was read."""
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(r"`\1`", obj.docstring.value)


class PublicInterfaces(griffe.Extension):
    """Exports what a backend's module defines and imports of its own files: its ``__all__``."""

    def on_package(self, *, pkg, **_):
        """Called for every package, once it was read."""
        backends = pkg.members["backends"].members.values() if "backends" in pkg.members else ()
        for module in backends:
            if module.is_module and module.exports is None:
                module.exports = [
                    name
                    for name, member in module.members.items()
                    if name[0] != "_" and self.is_own(module, member)
                ]

    @staticmethod
    def is_own(module, member):
        """Whether it is a function or a class of the backend's own."""
        if member.is_alias:
            if not member.target_path.startswith(f"{module.path}."):
                return False
            member = module[member.target_path.removeprefix(f"{module.path}.")]
        return not member.is_alias and (member.is_function or member.is_class)


class ClassDocstrings(griffe.Extension):
    """Gives a class that has no docstring that of its base, as ``__doc__ = Base.__doc__`` does."""

    def on_package(self, *, pkg, **_):
        """Called for every package, once it was read."""
        waiting = [pkg]
        while waiting:
            here = waiting.pop()
            for member in here.members.values():
                if member.is_alias or not (member.is_class or member.is_module):
                    continue
                waiting.append(member)
                if member.is_class and member.docstring is None:
                    documented = (base for base in member.mro() if base.docstring)
                    member.docstring = next((base.docstring for base in documented), None)
