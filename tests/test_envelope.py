"""The envelope's parts, asked of NumPy alone: ``python -m benchmarks.envelope``."""

from matplotlib.figure import Figure

from framework_parity.benchmarks import envelope, envelope_figure
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.training.recipe import Recipe

PLAN = Recipe("synthetic:600x300x2", 250, 0.1, 3)
LIMIT = Thresholds().envelopes


def test_fresh_members_are_within_the_whole_envelope_and_not_all_without_blocks(monkeypatch):
    monkeypatch.setattr(envelope, "FRESH", range(48, 60))
    rows = envelope.judge_plan(PLAN)
    assert [len(found) for found in rows] == [12] * len(envelope.BOUNDS)
    ratios = {
        bound.missing: [ratio for _, ratio in found]
        for bound, found in zip(envelope.BOUNDS, rows, strict=True)
    }
    assert max(ratios["nothing"]) <= LIMIT
    assert max(ratios["members that add up in blocks"]) > LIMIT
    for bound in envelope.BOUNDS:
        if bound.members is envelope.alike and bound.lockstep <= envelope.LOCKSTEP_MEMBERS:
            pairs = zip(ratios[bound.missing], ratios["nothing"], strict=True)
            assert all(without >= whole for without, whole in pairs), bound.missing
    lines = list(envelope.table([rows], LIMIT))
    assert len(lines) == 2 + len(envelope.BOUNDS)
    assert "| nothing | 0 of 12 | 0 |" in lines[2]


def test_the_figure_counts_what_lies_beyond_a_threshold(tmp_path):
    facts = {
        "command": "this",
        "nothing": [{"plan": "a", "ratios": "1 3"}, {"plan": "b", "ratios": "2 0.5"}],
        "a part": [{"plan": "a", "ratios": "1 9"}, {"plan": "b", "ratios": "2 5"}],
    }
    figure = Figure()
    envelope_figure.plot(figure, facts)
    whole, lacking = figure.axes[0].lines[:2]
    assert [whole.get_label(), lacking.get_label()] == ["nothing", "a part"]
    assert whole.get_xdata().tolist() == [0.5, 1, 2, 3]
    assert whole.get_ydata().tolist() == lacking.get_ydata().tolist() == [4, 3, 2, 1]
    assert lacking.get_xdata().tolist() == [1, 2, 5, 9]
    envelope_figure.save(facts, tmp_path / "envelope.png")
    assert (tmp_path / "envelope.png").stat().st_size > 1000
