"""GeneralPoints in plain Python, in the way the task is usually written there, for the comparison of speeds.

A reset draws a hand until it has a solution (looked up, once found out) and writes the prompt. A step reads the answer,
checks characters, grammar and numbers, evaluates with fractions, and writes the feedback of a failed attempt. Deliberately
absent: the prefix hint of a wrong total, legacy switches, pictures. Standard library alone.
"""

import functools
import itertools
import json
import random
import re
from fractions import Fraction

TARGET = 24
PROMPT = (
    "[Task]\nYou are an expert player of the 24 points game. You are dealt four cards. The face cards J, Q and K all count "
    "as 10. Use every card exactly once and find a formula that evaluates to 24, written with the numbers of the cards and "
    "the symbols '+', '-', '*', '/', '(', ')' and '='.\n\n[Input]\nCards: {cards}\n\n[Output]\nAnswer with one object of this "
    'form:\n{{\n  "cards": [the cards you were dealt],\n  "number": [the value of each card, four in all],\n  "formula": "an '
    'equation that equals 24",\n}}'
)
PLAIN = ["", "A", "2", "3", "4", "5", "6", "7", "8", "9", "10", "J", "Q", "K"]
TOKEN = re.compile(r"\d+|[-+*/()]")
FORMULA = re.compile(r"""["']formula["']\s*:\s*"([^"\n]*)\"""")


@functools.cache
def values_of(numbers):
    """Every value of an expression over the sorted numbers, each with one formula."""
    if len(numbers) == 1:
        return {Fraction(numbers[0]): str(numbers[0])}
    found = {}
    places = range(len(numbers))
    for size in range(1, len(numbers)):
        for left in itertools.combinations(places, size):
            a_side = values_of(tuple(numbers[i] for i in left))
            b_side = values_of(tuple(numbers[i] for i in places if i not in left))
            for (a, a_text), (b, b_text) in itertools.product(a_side.items(), b_side.items()):
                found.setdefault(a + b, f"({a_text}+{b_text})")
                found.setdefault(a - b, f"({a_text}-{b_text})")
                found.setdefault(a * b, f"({a_text}*{b_text})")
                if b:
                    found.setdefault(a / b, f"({a_text}/{b_text})")
    return found


@functools.cache
def solution(numbers):
    """A formula over the sorted numbers that makes the target, or None."""
    return values_of(numbers).get(Fraction(TARGET))


class Fault(Exception):
    """A formula without a value."""


def evaluate(tokens):
    """The value by recursive descent."""
    position = 0

    def peek():
        return tokens[position] if position < len(tokens) else None

    def operand():
        nonlocal position
        token = peek()
        position += 1
        if token == "(":
            value = total()
            if peek() != ")":
                raise Fault
            position += 1
            return value
        if token is None or not token.isdigit():
            raise Fault
        return Fraction(int(token))

    def product():
        nonlocal position
        value = operand()
        while peek() in ("*", "/"):
            operator = tokens[position]
            position += 1
            other = operand()
            if operator == "/" and not other:
                raise Fault
            value = value * other if operator == "*" else value / other
        return value

    def total():
        nonlocal position
        value = product()
        while peek() in ("+", "-"):
            operator = tokens[position]
            position += 1
            other = product()
            value = value + other if operator == "+" else value - other
        return value

    value = total()
    if position < len(tokens):
        raise Fault
    return value


class GeneralPoints:
    """One game at a time, with the rewards added up."""

    def reset(self, seed, index):
        draw = random.Random(f"{seed}/{index}")
        while True:
            ranks = [draw.randint(1, 13) for _ in range(4)]
            self.numbers = [min(rank, 10) for rank in ranks]
            if solution(tuple(sorted(self.numbers))) is not None:
                break
        self.suits = [draw.choice("HSDC") for _ in ranks]
        self.cards = [PLAIN[rank] for rank in ranks]
        self.attempts = 5
        return PROMPT.format(cards=json.dumps(self.cards))

    def expert(self):
        formula = solution(tuple(sorted(self.numbers)))
        cards, numbers = json.dumps(self.cards), json.dumps(self.numbers)
        return f'{{\n  "cards": {cards},\n  "number": {numbers},\n  "formula": "{formula}={TARGET}",\n}}'

    def step(self, response):
        """Reward, whether it is right, the next user turn, whether the episode ended, whether a point was left behind."""
        self.attempts -= 1
        reward, reasons = self.grade(response)
        success = reward == 5
        feedback = None
        if not success and self.attempts:
            feedback = f"That answer failed: {', '.join(reasons)}. Please try again."
        return reward, success, feedback, feedback is None, False

    def grade(self, response):
        try:
            formula = json.loads(response).get("formula")
        except (ValueError, AttributeError):
            match = FORMULA.search(response)
            formula = match.group(1) if match else None
        if not isinstance(formula, str):
            return -3, ["no formula was found"]
        formula = formula.split("=")[0]
        tokens = TOKEN.findall(formula)
        if "".join(tokens) != formula:
            return -3, ["the formula has illegal characters"]
        reward, reasons = self.grammar(tokens)
        left = list(self.numbers)
        foreign = []
        for token in tokens:
            if token.isdigit():
                if int(token) in left:
                    left.remove(int(token))
                else:
                    foreign.append(token)
        if foreign:
            reward -= 2
            reasons.append(f"these numbers are not in the hand: {foreign}")
        if left:
            reward -= 2
            reasons.append(f"these numbers are not used: {left}")
        if reward:
            return reward, reasons
        try:
            if evaluate(tokens) == TARGET:
                return 5, ["the formula is correct"]
        except Fault:
            pass
        return -1, ["the formula does not equal 24"]

    @staticmethod
    def grammar(tokens):
        reward, reasons, depth, previous = 0, [], 0, None
        for token in tokens:
            after_value = previous is not None and (previous.isdigit() or previous == ")")
            if token.isdigit() or token == "(":
                wrong = after_value
                depth += token == "(" and not after_value
            else:
                wrong = not after_value
            if token == ")":
                if depth:
                    depth -= 1
                else:
                    reward -= 3
                    reasons.append("a close bracket has no open bracket")
            if wrong:
                reward -= 3
                reasons.append(f"invalid sequence at {token}")
            previous = token
        if depth:
            reward -= 3 * depth
            reasons.append("an open bracket is never closed")
        return reward, reasons
