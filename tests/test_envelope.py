"""The envelope's parts, asked of NumPy alone: ``python -m benchmarks.envelope``."""

from benchmarks import envelope
from common.recipe import Recipe
from common.thresholds import Thresholds

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
