"""A copy of the project with a backend of its own, whose package is off from one release on."""

import sys
import zipfile

from framework_parity.common.environments.backend import ROOT
from tests.conftest import BACKENDS
from tests.helpers import PLAIN, copy_code

PACKAGE = "plantedsgd"
RELEASES = [f"1.{minor}" for minor in range(1, 13)]
FIRST_WRONG = "1.7"
FACTOR = 1.001
VERSIONS = f"""

def versions():
    import importlib.metadata

    return {{"{PACKAGE}": importlib.metadata.version("{PACKAGE}")}}
"""
UPDATE = """
def update(parameter, gradient, lr):
    parameter -= parameter.dtype.type(lr * {factor}) * gradient
"""
OPTIMIZER = f"""
from {PACKAGE} import update


class SGD:
    def __init__(self, parameters, lr):
        self.parameters = parameters
        self.lr = lr

    def step(self, gradients):
        for name, gradient in gradients.items():
            update(self.parameters[name], gradient, self.lr)


def arguments(optimizer, num_steps):
    return None
"""


def build_wheel(folder, version, source, requires=()):
    """A release of the package, as pip installs it."""
    info = f"{PACKAGE}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {version}\n"
    contents = {
        f"{PACKAGE}.py": source,
        f"{info}/METADATA": metadata + "".join(f"Requires-Dist: {line}\n" for line in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{PACKAGE}-{version}-py3-none-any.whl", "w") as archive:
        for path, content in contents.items():
            archive.writestr(path, content)


def build_releases(folder):
    """Twelve releases, of which the last six multiply the learning rate."""
    wrong = RELEASES.index(FIRST_WRONG)
    for place, version in enumerate(RELEASES):
        build_wheel(folder, version, UPDATE.format(factor=FACTOR if place >= wrong else 1))


def copy_project(folder):
    """The project with one backend: the plain one, whose updates are the package's."""
    copy_code(folder)
    (folder / "backends" / PACKAGE).mkdir()
    for source in (ROOT / "backends" / PLAIN).glob("*.py"):
        text = source.read_text().replace(
            f"framework_parity.backends.{PLAIN}", f"framework_parity.backends.{PACKAGE}"
        )
        (folder / "backends" / PACKAGE / source.name).write_text(text)
    (folder / "backends" / PACKAGE / "optimizer.py").write_text(OPTIMIZER)
    with (folder / "backends" / PACKAGE / "__init__.py").open("a") as file:
        file.write(VERSIONS)
    pins = [f"{PACKAGE}=={RELEASES[-1]}", str(BACKENDS[PLAIN].requirements[0])]
    (folder / "backends" / PACKAGE / "requirements.txt").write_text("\n".join(pins) + "\n")
    return [sys.executable, "-W", "error", folder / "compare.py"]
