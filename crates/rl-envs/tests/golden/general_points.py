"""Writes general_points.json: solution strings and solvable counts, worked out with Python fractions.

Run from this folder: python3 general_points.py
"""

import itertools
import json
import re
from fractions import Fraction

SHAPES = {
    1: ["{0}"],
    2: ["{0}{a}{1}"],
    3: ["{0}{a}{1}{b}{2}", "({0}{a}{1}){b}{2}", "{0}{a}({1}{b}{2})"],
    4: [
        "{0}{a}{1}{b}{2}{c}{3}",
        "({0}{a}{1}){b}{2}{c}{3}",
        "({0}{a}{1}{b}{2}){c}{3}",
        "{0}{a}({1}{b}{2}){c}{3}",
        "{0}{a}({1}{b}{2}{c}{3})",
        "{0}{a}{1}{b}({2}{c}{3})",
        "({0}{a}{1}){b}({2}{c}{3})",
    ],
}


def value(text):
    try:
        return eval(re.sub(r"\d+", r"Fraction(\g<0>)", text))
    except ZeroDivisionError:
        return None


def solutions(values, target):
    found = set()
    for order in set(itertools.permutations(values)):
        for operators in itertools.product("+-*/", repeat=len(values) - 1):
            names = dict(zip("abc", operators))
            for shape in SHAPES[len(values)]:
                text = shape.format(*order, **names)
                if value(text) == target:
                    found.add(text)
    return sorted(found)


def reachable(values):
    """Values of all expression trees over the multiset, by splitting it in two."""
    if len(values) == 1:
        return {Fraction(values[0])}
    found = set()
    places = range(len(values))
    for size in range(1, len(values)):
        for left in itertools.combinations(places, size):
            a_values = tuple(values[i] for i in left)
            b_values = tuple(values[i] for i in places if i not in left)
            for a in reachable(a_values):
                for b in reachable(b_values):
                    found |= {a + b, a - b, a * b}
                    if b:
                        found.add(a / b)
    return found


def small_games():
    for cards in (2, 3):
        reach = {}
        for target in (10, 12, 24):
            for face_as_10 in (True, False):
                count = {True: set(), False: set()}
                for ranks in itertools.combinations_with_replacement(range(1, 14), cards):
                    values = tuple(min(r, 10) if face_as_10 else r for r in ranks)
                    if values not in reach:
                        reach[values] = reachable(values)
                    if target in reach[values]:
                        count[max(ranks) >= 11].add(values)
                yield {
                    "num_cards": cards,
                    "target": target,
                    "treat_face_cards_as_10": face_as_10,
                    "all": len(count[True] | count[False]),
                    "with_face": len(count[True]),
                    "without_face": len(count[False]),
                }


HANDS = [
    ((1, 2, 3, 4), 24),
    ((6, 6, 6, 6), 24),
    ((3, 3, 8, 8), 24),
    ((1, 5, 5, 5), 24),
    ((2, 3, 4, 10), 24),
    ((1, 3, 4, 6), 24),
    ((5, 7, 11, 13), -3),
    ((2, 3, 5), 10),
    ((12, 13, 13), 12),
    ((2, 12), 24),
    ((7,), 7),
]

if __name__ == "__main__":
    golden = {
        "solutions": [{"values": v, "target": t, "solutions": solutions(v, t)} for v, t in HANDS],
        "small_games": list(small_games()),
    }
    with open("general_points.json", "w") as file:
        json.dump(golden, file, indent=1)
        file.write("\n")
