"""iGSM in plain Python: the generator of word problems over dependency graphs, in our own words, for the comparison of speeds.

    python3 envs_igsm.py            checks 500 problems and prints one of them

Both graphs, the redundant conditions, every value, the question and a solution without injected behaviours are made as the
environment of this repository makes them, with its vocabulary and its sentences, in lists, dicts and sets as one writes them
in Python. Standard library alone.
"""

import json
import math
import random
import re
import string
import sys
from pathlib import Path

VOCABULARY = Path(__file__).resolve().parents[2] / "crates/rl-envs/src/igsm/vocabulary.json"
SYSTEM = (
    "You are an assistant who solves the problem that the user gives you. First reason about the problem, then give the "
    "answer. Put the reasoning inside <think></think> and the answer inside <answer></answer>, in this order, and write the "
    "final number as \\boxed{number}."
)
LAYERS = 4
MAX_EDGES = 20
MAX_IN_DEGREE = 4
MAX_ATTEMPTS = 50
MAX_LETTERS = 52
MAX_SOLUTION = 1000
INSTANCE, TOTAL = 0, 1
CONSTANT = None
"""The parent that stands for a random constant. All other parents are quantities: (INSTANCE, layer, node, item below) and
(TOTAL, layer, node, layer counted)."""


class GivenUp(Exception):
    """A draw that leads to no problem."""


class Structure:
    """Layers of things and what contains what."""

    def __init__(self, draw, operations):
        relative = (operations - 1) / (MAX_EDGES - 1)
        shares = [math.exp(-((relative - center) ** 2)) for center in (0.2, 0.5, 0.8)]
        self.layers, first, second = draw.choices((2, 3, 4), shares, k=3)
        low, high = min(first, second), max(first, second)
        fewest = (self.layers - 1) * low
        edges = min(draw.randint(fewest, MAX_EDGES), draw.randint(fewest, MAX_EDGES), (self.layers - 1) * high**2)
        self.bounds = low, high
        self.num_edges = edges
        self.start = draw.randint(0, LAYERS - self.layers)

    def draw(self, draw):
        low, high = self.bounds
        self.widths = widths = [low] * self.layers
        patience = draw.random()
        while min(widths) < high and sum(widths[1:]) < self.num_edges:
            possible = sum(below * above for below, above in zip(widths, widths[1:]))
            if self.num_edges <= possible and patience <= draw.random():
                break
            widths[draw.choice([layer for layer in range(self.layers) if widths[layer] < high])] += 1
        edges = set()
        for layer in range(1, self.layers):
            for node in range(widths[layer]):
                edges.add((INSTANCE, layer, node, draw.randrange(widths[layer - 1])))
        while len(edges) < self.num_edges:
            layer = draw.randrange(1, self.layers)
            edges.add((INSTANCE, layer, draw.randrange(widths[layer]), draw.randrange(widths[layer - 1])))
        self.edges = sorted(edges)
        self.parents = {}
        for layer in range(1, self.layers):
            for node in range(widths[layer]):
                inside = [edge for edge in self.edges if edge[1:3] == (layer, node)]
                self.parents[TOTAL, layer, node, layer - 1] = inside
                for category in range(layer - 1):
                    pairs = [(edge, (TOTAL, layer - 1, edge[3], category)) for edge in inside]
                    self.parents[TOTAL, layer, node, category] = [quantity for pair in pairs for quantity in pair]

    def cost(self, quantity):
        return max(1, len(self.parents.get(quantity, ())) - 1)

    def closure(self, quantity, found):
        if quantity not in found:
            found.add(quantity)
            for parent in self.parents.get(quantity, ()):
                self.closure(parent, found)
        return found


def draw_quantities(draw, structure, seed_operations, plain_operations):
    """Stages 1 and 2: which quantities the solution computes."""
    chosen, cost, level = set(), 0, structure.layers - 1
    while level:
        unused = [total for total in structure.parents if total[1] - total[3] == level and total not in chosen]
        if unused:
            added = structure.closure(draw.choice(unused), set()) - chosen
            price = sum(map(structure.cost, added))
            if cost + price <= seed_operations:
                chosen |= added
                cost += price
                level = structure.layers - 1
                continue
        level -= 1
    unused = [edge for edge in structure.edges if edge not in chosen]
    draw.shuffle(unused)
    chosen.update(unused[: max(0, plain_operations - cost)])
    return chosen


def biased(draw, candidates, need):
    """A candidate by the softmax of |normal| * (is a total + is needed)."""
    strength = abs(draw.gauss(0.0, 1.0))
    weights = [math.exp(strength * ((one[0] == TOTAL) + (one in need))) for one in candidates]
    return draw.choices(candidates, weights)[0]


def draw_order(draw, structure, chosen):
    """Stage 3, from the end: an order in which all is used later on, and the parents that make it so. None where stuck."""
    consumers = dict.fromkeys(chosen, 0)
    for quantity in chosen:
        for parent in structure.parents.get(quantity, ()):
            consumers[parent] += 1
    ready = [quantity for quantity in chosen if not consumers[quantity]]
    rest, need, order, parents = set(chosen), [], [], {}
    current = draw.choice(ready)
    while True:
        order.append(current)
        rest.remove(current)
        ready.remove(current)
        need = [quantity for quantity in need if quantity != current]
        for parent in structure.parents.get(current, ()):
            need.append(parent)
            consumers[parent] -= 1
            if not consumers[parent]:
                ready.append(parent)
        if not rest:
            break
        chosen_parent = None
        if not any(quantity in ready for quantity in need):
            if current[0] == TOTAL:
                return None
            chosen_parent = biased(draw, ready, need)
        elif current[0] == INSTANCE and draw.random() < 0.5:
            chosen_parent = biased(draw, list(rest), need)
        if chosen_parent is not None:
            parents[current] = [chosen_parent]
            need.append(chosen_parent)
        current = draw.choice([quantity for quantity in need if quantity in ready])
    order.reverse()
    return order, parents


def draw_degrees(draw, structure, order, parents, operations):
    """Stage 4: in-degrees that make the number of operations exact, and parents to fill them."""
    costs = [structure.cost(quantity) for quantity in order]
    caps = [min(MAX_IN_DEGREE - 1, max(1, place)) for place in range(len(order))]
    for _ in range(operations - sum(costs)):
        growing = [i for i, one in enumerate(order) if one[0] == INSTANCE and costs[i] < caps[i]]
        if not growing:
            raise GivenUp
        costs[draw.choice(growing)] += 1
    if sum(costs) != operations:
        raise GivenUp
    for place, quantity in enumerate(order):
        if quantity[0] == TOTAL:
            continue
        mine = parents.setdefault(quantity, [])
        pool = [one for one in order[:place] if one not in mine] + [CONSTANT]
        target = draw.randint(1, 2) if costs[place] == 1 else costs[place] + 1
        target = min(target, place + 1) - len(mine)
        if target < len(pool) and draw.random() < 0.5:
            mine.append(pool.pop())
            target = max(0, target - 1)
        mine.extend(draw.sample(pool, target))


def draw_redundant(draw, structure, order, parents):
    """Stage 5: the other edges are described too, with parents of their own."""
    nodes, isolated, added = set(order), [], []
    unused = [edge for edge in structure.edges if edge not in nodes]
    draw.shuffle(unused)
    for edge in unused:
        if draw.random() < 0.5:
            pool = list(isolated)
            isolated.append(edge)
        else:
            pool = list(order)
            pool += [t for t, needs in structure.parents.items() if t not in nodes and all(one in nodes for one in needs)]
        target = 1
        while target < min(MAX_IN_DEGREE, len(pool) + 1) and draw.random() < 0.5:
            target += 1
        if target == len(pool) + 1:
            mine = pool + [CONSTANT]
        else:
            mine = [CONSTANT] if draw.random() < 0.5 else []
            mine += draw.sample(pool, target - len(mine))
        for parent in mine:
            if parent is not CONSTANT and parent not in nodes:
                nodes.add(parent)
                added.append(parent)
        nodes.add(edge)
        added.append(edge)
        parents[edge] = mine
    return added


class Problem:
    """A problem with all values; `GivenUp` where the draw leads to none."""

    def __init__(self, draw, worlds, low, high):
        world = draw.choice(worlds)
        lists = [draw.choice(category["subcategories"])["items"] for category in world]
        self.operations = operations = min(draw.randint(low, high), draw.randint(low, high))
        seed_operations = max(draw.randint(1, operations), draw.randint(1, operations))
        plain_operations = draw.randint(seed_operations, operations)
        self.structure = structure = Structure(draw, operations)
        for _ in range(MAX_ATTEMPTS):
            structure.draw(draw)
            chosen = draw_quantities(draw, structure, seed_operations, plain_operations)
            if MAX_LETTERS < len(chosen):
                raise GivenUp
            found = draw_order(draw, structure, chosen)
            if found:
                break
        else:
            raise GivenUp
        self.necessary, parents = found
        draw_degrees(draw, structure, self.necessary, parents, operations)
        self.definitions, self.values = {}, {}
        self.define(draw, self.necessary, parents)
        self.query = self.necessary[-1]
        self.answer = self.values[self.query]
        if MAX_SOLUTION <= abs(self.answer):
            raise GivenUp
        redundant = draw_redundant(draw, structure, self.necessary, parents)
        self.nodes = self.necessary + redundant
        if MAX_LETTERS < len(self.nodes):
            raise GivenUp
        self.define(draw, redundant, parents)
        start, widths = structure.start, structure.widths
        self.items = [draw.sample(lists[start + layer], widths[layer]) for layer in range(structure.layers)]
        self.categories = [world[start + layer]["name"] for layer in range(structure.layers)]
        self.conditions = [quantity for quantity in self.nodes if quantity[0] == INSTANCE]
        draw.shuffle(self.conditions)

    def define(self, draw, quantities, parents):
        """What the sentences say of `quantities`, and their values."""
        for quantity in quantities:
            if quantity[0] == INSTANCE:
                operands = [parent for parent in parents[quantity] if parent is not CONSTANT]
                draw.shuffle(operands)
                has_constant = len(operands) < len(parents[quantity])
                operator = draw.choice("+*") if has_constant and operands else None
                constant = draw.randint(0, 9) if has_constant else None
                sign = draw.choice("+-") if len(operands) == 2 else "+"
                self.definitions[quantity] = constant, operator, sign, operands
            self.values[quantity] = self.value(quantity)

    def terms(self, quantity):
        """The operands of a quantity, in tuples that are multiplied."""
        if quantity[0] == INSTANCE:
            return [(operand,) for operand in self.definitions[quantity][3]]
        operands = self.structure.parents[quantity]
        if quantity[1] - quantity[3] == 1:
            return [(operand,) for operand in operands]
        return list(zip(operands[::2], operands[1::2]))

    def value(self, quantity):
        numbers = [math.prod(self.values[one] for one in term) for term in self.terms(quantity)]
        constant, operator, sign, _ = self.definitions.get(quantity, (None, None, "+", None))
        total = numbers[0] - numbers[1] if sign == "-" else sum(numbers)
        if constant is None:
            return total
        return constant if operator is None else constant + total if operator == "+" else constant * total

    def name(self, quantity):
        kind, layer, node, below = quantity
        counted = self.items[layer - 1][below] if kind == INSTANCE else self.categories[below]
        return f"the {counted} count of one {self.items[layer][node]}"

    def question(self):
        lines = []
        for quantity in self.conditions:
            _, layer, node, below = quantity
            constant, operator, sign, operands = self.definitions[quantity]
            names = [self.name(operand) for operand in operands]
            text = "" if constant is None else str(constant)
            if operator:
                text += " plus " if operator == "+" else " multiplied by "
            if len(names) == 1:
                text += names[0]
            elif sign == "-":
                text += f"the gap {names[0]} minus {names[1]}"
            elif names:
                text += f"the total of {', '.join(names[:-1])} and {names[-1]}"
            lines.append(f"In one {self.items[layer][node]}, the {self.items[layer - 1][below]} count is {text}.")
        lines.append(f"What is {self.name(self.query)}?")
        return "\n".join(lines)

    def expression(self, quantity, shown):
        """The right side of an equation, with `shown` for each operand."""
        constant, operator, sign, _ = self.definitions.get(quantity, (None, None, "+", None))
        terms = [" * ".join(shown(one) for one in term) for term in self.terms(quantity)]
        inner = f" {sign} ".join(terms)
        if constant is None:
            return inner
        if operator is None:
            return str(constant)
        return f"{constant} {operator} ({inner})" if 1 < len(terms) else f"{constant} {operator} {inner}"

    def response(self, draw):
        """The solution: a line per necessary quantity, in order."""
        letters = dict(zip(self.nodes, draw.sample(string.ascii_letters, len(self.nodes))))
        number = lambda one: str(self.values[one])
        query = self.name(self.query)
        lines = ["<think>", f"We look for {query}."]
        for quantity in self.necessary:
            letter, name, value = letters[quantity], self.name(quantity), number(quantity)
            called = draw.choice((f"Call it {letter}. ", f"Write {letter} for it. ", f"Let {letter} stand for it. "))
            if not self.terms(quantity):
                given = draw.choice(("As stated, ", "It is given that "))
                lines.append(f"- {given}{name} is {value}. {called}{letter} = {value}.")
                continue
            if draw.random() < 0.5:
                words = f"{draw.choice(('Next is ', 'Now turn to '))}{name}. {called}"
            else:
                both = (f"Next is {name}, call it {letter}. ", f"Now take {name} as {letter}. ", f"Let {letter} be {name}. ")
                words = draw.choice(both)
            numbers = self.expression(quantity, number)
            chain = [letter, self.expression(quantity, letters.get)] + ([numbers] if numbers != value else []) + [value]
            lines.append(f"- {words}{' = '.join(chain)}.")
        lines += [f"So {query} is {self.answer}.", "</think>", "<answer>", f"The answer is \\boxed{{{self.answer}}}.", "</answer>"]
        return "\n".join(lines)


class Igsm:
    """The environment: one problem of `low` to `high` operations, one answer."""

    def __init__(self, low=15, high=20):
        systems = json.loads(VOCABULARY.read_text())["systems"]
        # Layer 0 holds the smallest things, which the file names last.
        self.worlds = [system["categories"][::-1] for system in systems]
        self.low, self.high = low, high

    def reset(self, seed, index):
        self.draw = random.Random(f"{seed}/{index}")
        while True:
            try:
                self.problem = Problem(self.draw, self.worlds, self.low, self.high)
                return f"{SYSTEM}\n{self.problem.question()}"
            except GivenUp:
                pass

    def expert(self):
        return self.problem.response(self.draw)

    def step(self, response):
        """Reward, whether it is right, the next user turn, whether the episode ended, whether a point was left behind."""
        found = re.findall(r"\\boxed\{([^}]*)\}", response.rpartition("<answer>")[2].partition("</answer>")[0])
        try:
            success = bool(found) and int(found[-1]) == self.problem.answer
        except ValueError:
            success = False
        return float(success), success, None, True, False


NAMED = re.compile(r"the ([A-Z][\w ]*?) count of one ([A-Z][\w ]*?)(?=$|, the | and the | minus the )")


def solve(question, layer_of, category_layers):
    """The answer from the text alone, by recursion from what is asked."""
    *conditions, asked = question.split("\n")
    stated = {}
    for line in conditions:
        container, thing, formula = re.fullmatch(r"In one (.*?), the (.*?) count is (.*)\.", line).groups()
        stated[container, thing] = formula

    def total(container, category):
        inside = [thing for holder, thing in stated if holder == container]
        if layer_of[container] - category_layers[category] == 1:
            return sum(quantity(thing, container) for thing in inside)
        return sum(quantity(thing, container) * total(thing, category) for thing in inside)

    def quantity(thing, container):
        if thing in category_layers:
            return total(container, thing)
        formula = stated[container, thing]
        if formula.isdigit():
            return int(formula)
        numbers = [quantity(*names) for names in NAMED.findall(formula)]
        base = numbers[0] - numbers[1] if "the gap " in formula else sum(numbers)
        start = re.match(r"(\d+) (plus|multiplied by) ", formula)
        if not start:
            return base
        return int(start[1]) + base if start[2] == "plus" else int(start[1]) * base

    return quantity(*NAMED.search(asked.rstrip("?")).groups())


def check(count=100, seed=3):
    """Fails unless `count` problems have the answer that their text gives, the operations asked for and sound solutions."""
    task = Igsm()
    layer_of = {
        item: layer for world in task.worlds for layer, category in enumerate(world)
        for names in category["subcategories"] for item in names["items"]
    }
    category_layers = {category["name"]: layer for world in task.worlds for layer, category in enumerate(world)}
    for index in range(count):
        question = task.reset(seed, index).split("\n", 1)[1]
        problem = task.problem
        assert solve(question, layer_of, category_layers) == problem.answer, question
        used = 0
        for quantity in problem.necessary:
            constant, _, _, operands = problem.definitions.get(quantity, (None, None, None, None))
            degree = len(problem.structure.parents[quantity]) if operands is None else len(operands) + (constant is not None)
            used += max(1, degree - 1)
        assert used == problem.operations and 15 <= used <= 20, (used, problem.operations)
        assert len(question.split("\n")) == len(problem.structure.edges) + 1
        response = task.expert()
        lines = re.findall(r"^- .*\. (\w) = (.*)\.$", response, re.MULTILINE)
        assert len(lines) == len(problem.necessary), response
        known = {}
        for letter, chain in lines:
            symbols, *numbers = chain.split(" = ")
            known[letter] = eval(symbols, {}, known)
            assert all(eval(one) == known[letter] for one in numbers), (letter, chain)
        assert known[letter] == problem.answer and task.step(response)[1] and not task.step("<answer>none</answer>")[1]
    return task


if __name__ == "__main__":
    task = check(500)
    print(task.problem.question(), task.expert(), sep="\n\n")
    print("500 problems checked", file=sys.stderr)
