"""Simulates seeds, and prints what it finds: `python -m tests.simulation --seeds 500`.

    --first 1000 --seeds 500        these seeds
    --seed 1007 --trace             what happens in one seed
    --seed 1007 --reduce            which faults the first violation of a seed needs
    --without outages,expiry        leaves out faults, or what plans may have
    --clusters 2                    how many clusters, which is else up to the seed
    --mutant no_if_absent           with a fault in the product, which must be found

The last line sums up; the exit status is 1 where an invariant was broken.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter, defaultdict
from contextlib import nullcontext

from tests.simulation.faults import CLASSES
from tests.simulation.mutants import MUTANTS
from tests.simulation.story import simulate
from tests.simulation.world import World


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--clusters", type=int, default=0, help="how many clusters begin")
    parser.add_argument("--without", default="", help=f"by commas: expiry, removal, {', '.join(CLASSES)}")
    parser.add_argument("--trace", action="store_true", help="print what happens")
    parser.add_argument("--reduce", action="store_true", help="leave out the faults that a violation does not need")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="change the product")
    return parser.parse_args()


def _reduced(seed: int, clusters: int, without: set[str], kind: str) -> set[str]:
    """The faults that can be left out, and this kind of violation stays."""
    for name in ["expiry", "removal", *CLASSES]:
        if name not in without:
            world = simulate(seed, clusters=clusters, without=without | {name})
            if any(violation.kind == kind for violation in world.findings.violations):
                without = without | {name}
    return without


def _summary(world: World) -> str:
    plan = world.plan
    return f"clusters={plan.clusters} expires={plan.expires} removes={plan.removes} {world.drawn.drawn()}"


def main() -> int:
    """Simulate what the arguments ask for."""
    options = _parsed()
    without = set(filter(None, options.without.split(",")))
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    kinds: dict[str, list[int]] = defaultdict(list)
    examples: dict[str, str] = {}
    counts: Counter[str] = Counter()
    began_s = time.monotonic()
    with MUTANTS[options.mutant]() if options.mutant else nullcontext():
        for seed in seeds:
            world = simulate(seed, clusters=options.clusters, without=without, traced=options.trace)
            counts.update(world.findings.counts)
            counts["runs"] += len(world.record.ended)
            counts["segments"] += world.record.state.seq
            counts["steps"] += world.loop.steps
            if options.trace:
                print("\n".join(world.findings.lines))
                print(_summary(world))
            for violation in world.findings.violations:
                if seed not in kinds[violation.kind]:
                    kinds[violation.kind].append(seed)
                examples.setdefault(violation.kind, f"seed {seed}: {violation.text}")
            if world.findings.violations:
                first = world.findings.violations[:3]
                print(f"seed {seed}: {'; '.join(f'{each.kind}: {each.text}' for each in first)}", flush=True)
                if options.reduce:
                    kept = _reduced(seed, options.clusters, without, first[0].kind)
                    needed = {*CLASSES, "expiry", "removal"} - kept
                    print(
                        f"   {first[0].kind} needs: {', '.join(sorted(needed & set(world.drawn.drawn())))}", flush=True
                    )
    took_s = time.monotonic() - began_s
    print("---")
    for kind, found in sorted(kinds.items()):
        print(f"{kind}: {len(found)} seeds, as {found[:8]}; {examples[kind]}")
    print(dict(counts))
    bad = len({seed for found in kinds.values() for seed in found})
    print(f"{len(seeds)} seeds in {took_s:.0f} s: {bad} with violations, {len(kinds)} kinds")
    return 1 if bad else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads of processes that were killed may wait for ever
