"""Every discovered backend keeps the contract, in its own interpreter."""

import pytest

from tests.checks import CHECKS, IMPLEMENTATION_CHECKS
from tests.conftest import BACKENDS


def test_the_five_backends_are_there():
    assert len(BACKENDS) >= 5
    assert all(len(backend.implementations) == 2 for backend in BACKENDS.values())
    assert sum(backend.is_framework for backend in BACKENDS.values()) >= 4


@pytest.mark.parametrize("check", [check.__name__ for check in CHECKS])
@pytest.mark.parametrize("backend", BACKENDS)
def test_backend(backend_processes, backend, check):
    backend_processes(backend).check(check)


@pytest.mark.parametrize("check", [check.__name__ for check in IMPLEMENTATION_CHECKS])
@pytest.mark.parametrize(
    ("backend", "implementation"),
    [(b.name, implementation) for b in BACKENDS.values() for implementation in b.implementations],
)
def test_implementation(backend_processes, backend, implementation, check):
    backend_processes(backend).check(check, implementation)
