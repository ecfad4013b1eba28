"""The pool of workers: one process for plan after plan, shared, and gone when nobody needs it."""

import os
import shlex
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from framework_parity.common.data.datasets import Synthetic
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.discovery import find_environment
from framework_parity.common.execution.processes import REFERENCE, Contender, Execution
from framework_parity.common.execution.worker_pool import WorkerPool
from framework_parity.common.reference.replay import Training
from framework_parity.common.training.record import Record
from tests.conftest import BACKENDS
from tests.helpers import PLAIN, alive, interpreter, make_plan, processes, wait_until
from tests.test_shared_process import check_same

PLANS = ((300, 8, 3, "float32"), (500, 5, 4, "float64"), (300, 8, 3, "float32"))
"""What a worker trains one after the other: examples, features, classes, dtype."""


def execution(folder, pool, plan=PLANS[0], timeout=60.0):
    """Runs workers on a small plan whose reference is there."""
    *sizes, dtype = plan
    made, data = make_plan(folder, Synthetic(*sizes), dtype=dtype)
    alone = pool is None  # a process for each run, to compare with
    found = Execution(made, folder, 1, 1, timeout, pool=pool, alone=alone)
    Training(made, data).run().record().save(found.reference_folder(REFERENCE))
    return found


def contenders(backend=PLAIN, python=None):
    environment = find_environment(BACKENDS[backend], python)
    return [Contender(environment, name) for name in ("scratch", "concise")]


def train(found, runs):
    """Train; the outcome of each by its implementation."""
    outcomes = found.train_again(runs)
    return {run.implementation: outcomes[run.name] for run in runs}


def statuses(outcomes):
    return [outcome.status for outcome in outcomes.values()]


def facts(found, run):
    return Record.load(found.record_folder(run.name), found.plan.sha256).facts


@pytest.mark.parametrize("backend", BACKENDS)
def test_plan_after_plan_in_one_process_changes_no_bit(workers, tmp_path, backend):
    """Of another shape and another dtype, and the first plan once more."""
    runs, imports = contenders(backend), set()
    plans = [execution(tmp_path / str(n), workers, plan) for n, plan in enumerate(PLANS)]
    for number, plan in enumerate(plans):
        assert statuses(train(plan, runs)) == ["done"] * 2
        assert len(processes(str(workers.folder))) == 1
        imports |= {facts(plan, run)["seconds"]["import"] for run in runs}
        earlier = [len(facts(plan, run)["earlier_in_process"]) for run in runs]
        assert earlier == [2 * number, 2 * number + 1]
    assert len(imports) == 1
    own = execution(tmp_path / "own", None, PLANS[1])
    assert statuses(train(own, runs)) == ["done"] * 2
    for run in runs:
        check_same(plans[2].folder, plans[0].folder, run.name)  # that was its first
        check_same(plans[1].folder, own.folder, run.name)


def test_processes_that_share_a_folder_share_the_worker(workers, tmp_path):
    """Another Python process trains with the same worker, and does not end it as it leaves."""
    run = contenders()[0]
    assert statuses(train(execution(tmp_path / "first", workers), [run])) == ["done"]
    (pid,) = processes(str(workers.folder))
    script = f"""
from pathlib import Path
from framework_parity.common.execution.worker_pool import WorkerPool
from tests.test_worker_pool import contenders, execution, train, statuses
plan = execution(Path({str(tmp_path / "other")!r}), WorkerPool(Path({str(workers.folder)!r})))
assert statuses(train(plan, contenders()[:1])) == ["done"]
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=ROOT, check=True, timeout=60)
    assert processes(str(workers.folder)) == [pid]
    again = execution(tmp_path / "again", workers)
    assert statuses(train(again, [run])) == ["done"]
    assert facts(again, run)["earlier_in_process"] == ["scratch"] * 2


def test_whoever_comes_second_waits_for_its_turn(workers, tmp_path):
    """Two plans at once, one worker: each is trained, one after the other."""
    plans = [execution(tmp_path / str(number), workers) for number in range(4)]
    run = contenders()[0]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda plan: train(plan, [run]), plans))
    assert [statuses(outcomes) for outcomes in found] == [["done"]] * 4
    earlier = [len(facts(plan, run)["earlier_in_process"]) for plan in plans]
    assert sorted(earlier) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("deed", "status", "reason"),
    [
        ("kill", "failed", "its process ended; its log ends: last words"),
        ("fail", "failed", "a deed of sabotage"),
        ("leave", "failed", "its process ended"),
        ("hang", "timeout", "still running after 2.5 s"),
    ],
)
def test_a_worker_that_comes_to_grief_is_replaced(workers, tmp_path, deed, status, reason):
    script = f'exec {shlex.quote(sys.executable)} -m tests.sabotage {deed} concise "$@"'
    python = interpreter(tmp_path / "python", "*framework_parity.common.worker*", script)
    runs = contenders(python=python)
    for number in range(2):
        plan = execution(tmp_path / str(number), workers, timeout=2.5)
        outcomes = train(plan, runs)
        assert outcomes["scratch"].status == "done", outcomes["scratch"].reason
        assert outcomes["concise"].status == status
        assert reason in outcomes["concise"].reason
        assert facts(plan, runs[0])["earlier_in_process"] == []


def test_a_worker_that_was_killed_between_two_plans_is_replaced(workers, tmp_path):
    run = contenders()[0]
    assert statuses(train(execution(tmp_path / "first", workers), [run])) == ["done"]
    (pid,) = processes(str(workers.folder))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid))
    assert statuses(train(execution(tmp_path / "second", workers), [run])) == ["done"]
    assert len(processes(str(workers.folder))) == 1


def test_an_interpreter_that_is_none_has_its_reason(workers, tmp_path):
    environment = contenders()[0].environment
    broken = interpreter(
        tmp_path / "python",
        "*framework_parity.common.worker*",
        "echo a broken thing >&2; exit 1",
    )
    for python, reason in ((tmp_path / "nothing", "No such file"), (broken, "a broken thing")):
        run = Contender(type(environment)(PLAIN, python), "scratch")
        found = train(execution(tmp_path / f"plan-{reason}", workers), [run])["scratch"]
        assert found.status == "failed"
        assert reason in found.reason


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_it_ends_with_the_last_that_used_it_however_that_ended(tmp_path, name):
    """In the middle of a training, too: nobody would wait for its end."""
    script = f"""
from pathlib import Path
from framework_parity.common.execution.worker_pool import WorkerPool
from tests.test_worker_pool import contenders, execution, train
workers = WorkerPool(Path({str(tmp_path / "workers")!r}))
python = Path({str(tmp_path / "python")!r})
train(execution(Path({str(tmp_path / "plan")!r}), workers), contenders(python=python))
"""
    sabotage = f'exec {shlex.quote(sys.executable)} -m tests.sabotage hang concise "$@"'
    interpreter(tmp_path / "python", "*framework_parity.common.worker*", sabotage)
    pid = tmp_path / "plan" / "runs" / "pid"
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as process:
        wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"))
        assert alive(int(pid.read_text()))
        process.send_signal(getattr(signal, name))
    wait_until(lambda: not alive(int(pid.read_text())))
    assert not processes(str(tmp_path / "workers"))


def test_a_folder_with_a_long_name_is_no_obstacle(tmp_path):
    """The address of a socket has room for a hundred bytes."""
    folder = tmp_path / ("long" * 50)
    workers = WorkerPool(folder)
    assert statuses(train(execution(tmp_path / "plan", workers), contenders())) == ["done"] * 2
    workers.close()
    wait_until(lambda: not processes(str(folder)))
