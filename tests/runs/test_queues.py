"""Positions in a queue."""

from __future__ import annotations

import random

from t3d_server.runs.line import Line


def test_positions_are_right_whatever_comes_and_goes() -> None:
    chance = random.Random(3)
    line, plain = Line[int](), list[int]()
    for item in range(2000):
        match chance.choice(("add", "add", "first", "take", "remove")):
            case "add":
                line.add(item)
                plain.append(item)
            case "first":
                line.put_first(item)
                plain.insert(0, item)
            case "take":
                assert line.take() == (plain.pop(0) if plain else None)
            case "remove":
                gone = chance.choice([*plain, -1])
                assert line.remove(gone) == (gone in plain)
                plain = [each for each in plain if each != gone]
        assert list(line) == plain
        assert [line.position(each) for each in plain] == list(range(len(plain)))
