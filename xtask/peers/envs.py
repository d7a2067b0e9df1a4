"""Resets, examples and graded answers per second of the environments in plain Python.

    python3 envs.py --seconds 2

Needs nothing but Python. Prints one line of JSON per environment, with the names that `env_bench --json` of rl-examples
uses and measured in its way: a reset makes an episode and its prompt, an example is a reset and the expert's answer, steps
are timed without the resets between them. At every point of an episode the expert's answer in another episode comes first,
and then, unless that was right, the one that is right there. All cores are one process each.
"""

import argparse
import concurrent.futures
import json
import os
import time

from envs_general_points import GeneralPoints
from envs_igsm import Igsm, check
from envs_virl import Walk

EPISODES = 512
SEED = 1
ENVIRONMENTS = {"general_points": GeneralPoints, "virl": Walk, "igsm": Igsm}


def right_answers(game, index):
    """What the expert says from the start of an episode to its end."""
    game.reset(SEED, index)
    answers, ended = [], False
    while not ended:
        answers.append(game.expert())
        _, success, _, ended, moved = game.step(answers[-1])
        # What the expert says must be judged as right, or nothing was measured.
        assert success if ended else moved, (index, answers)
    return answers


class Timer:
    """Adds up the time of steps; what reading the clock costs is taken off."""

    def __init__(self):
        self.spent, self.count, readings = 0.0, 0, 1000
        begin = time.perf_counter()
        for _ in range(readings):
            time.perf_counter()
        self.clock = (time.perf_counter() - begin) / readings

    def step(self, game, answer):
        begin = time.perf_counter()
        judged = game.step(answer)
        self.spent += time.perf_counter() - begin - self.clock
        self.count += 1
        return judged


def play(game, index, right, others, timer):
    game.reset(SEED, index)
    for point, answer in enumerate(right):
        _, success, _, ended, moved = timer.step(game, others[point % len(others)])
        if ended:
            if not success:
                game.reset(SEED, index)
                for again in right[: point + 1]:
                    timer.step(game, again)
            return
        if not moved and timer.step(game, answer)[3]:
            return


def per_second(seconds, one):
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for index in range(EPISODES):
            one(index)
        count += EPISODES
    return count / (time.perf_counter() - started)


def measure(name, seconds):
    game = ENVIRONMENTS[name]()
    answers = [right_answers(game, index) for index in range(EPISODES)]

    def example(index):
        game.reset(SEED, index)
        game.expert()

    resets = per_second(seconds, lambda index: game.reset(SEED, index))
    examples = per_second(seconds, example)
    timer = Timer()
    per_second(2 * seconds, lambda index: play(game, index, answers[index], answers[(index + 1) % EPISODES], timer))
    return {
        "resets_per_second": resets,
        "examples_per_second": examples,
        "steps_per_second": timer.count / timer.spent,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which of %s; all" % ", ".join(ENVIRONMENTS))
    parser.add_argument("--seconds", type=float, default=1.0, help="measuring time of each number")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in ENVIRONMENTS]
    if unknown:
        parser.error(f"no environment {unknown[0]}; there are {', '.join(ENVIRONMENTS)}")
    check()
    cores = os.cpu_count()
    with concurrent.futures.ProcessPoolExecutor(cores) as pool:
        for name in arguments.names or ENVIRONMENTS:
            one = measure(name, arguments.seconds)
            parts = list(pool.map(measure, [name] * cores, [arguments.seconds] * cores))
            together = {rate: sum(part[rate] for part in parts) for rate in one}
            line = {"environment": name, "cores": cores, "one_core": one, "all_cores": together}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
