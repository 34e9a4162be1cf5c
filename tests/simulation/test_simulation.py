"""Simulated seeds without a violation, and mutants of the product that seeds find."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.story import simulate

FIRST = 1000
BLOCKS, SEEDS_A_BLOCK = 8, 8
"""Blocks are what workers share."""
FOUND_BY = {
    "no_if_absent": (1000, 1001, 1002),
    "nonce_ignored": (1000, 1002, 1004),
    "answered_before_stored": (1000, 1001, 1002),
    "claim_ignored": (1018, 1024, 1035),
    "queue_reversed": (1001, 1003, 1004),
    "last_segment_not_replayed": (1000, 1001, 1002),
    "granted_twice": (1047,),
    "fences_ignored": (1000, 1002, 1004),
}
"""Seeds that find each mutant; one of them is enough."""


def kinds_of(seed: int) -> list[str]:
    """What is found in a seed."""
    return [f"{each.kind}: {each.text}" for each in simulate(seed).findings.violations]


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_invariant_is_broken_whatever_fails(block: int) -> None:
    first = FIRST + block * SEEDS_A_BLOCK
    found = {seed: kinds for seed in range(first, first + SEEDS_A_BLOCK) if (kinds := kinds_of(seed))}
    assert not found


def test_a_seed_gives_the_same_trace_again() -> None:
    first, second = (simulate(FIRST, traced=True).findings.lines for _ in range(2))
    assert first == second
    assert len(first) > 100


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_found(name: str) -> None:
    with MUTANTS[name]():
        assert any(kinds_of(seed) for seed in FOUND_BY[name])
