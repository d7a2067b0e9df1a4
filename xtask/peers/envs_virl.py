"""V-IRL in plain Python: the task as its published code plays it, in our own words, for the comparison of speeds.

Routes are made up once (a jittered grid, landmarks at most corners) and are not part of what is measured; a reset lays the
rail of a route, a step reads an answer, grades it and writes the next prompt with the whole history, as the environment that
this repository replaces does. Standard library alone.
"""

import json
import math
import random
import re

RADIUS = 6371008.8
COMPASS = ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest")
RELATION = ("front", "right front", "right", "right behind", "behind", "left behind", "left", "left front")
NO_LANDMARK = "No landmark is near"
AT_INTERSECTION = "You are at an intersection"
PROMPT = """[Task]
You are walking through a city and follow written instructions to a destination. At each point of the walk you are told what \
you observe, and you choose the next action that the instructions call for.

[Instructions]
{instructions}

[Actions]
"forward()": take one step in the direction you face.
{rule}
"stop()": end the walk at the destination.

[Walk so far]
O is what you observed at a point and A is what you did there. The last A is yours to choose.
{history}

[Output]
Answer with one object of this form:
{skeleton}"""
RULE = '"turn_direction(x)": turn until you face x, one of ' + ", ".join("'%s'" % word for word in COMPASS) + "."
SKELETON = """{
  "current observation": "what you observe now, as in the last O",
  "current instruction": "the instruction you follow now",
  "action": "the action you choose, from the list above",
}"""


def distance(a, b):
    lat_a, lat_b = math.radians(a[0]), math.radians(b[0])
    half = math.sin((lat_b - lat_a) / 2) ** 2
    half += math.cos(lat_a) * math.cos(lat_b) * math.sin(math.radians(b[1] - a[1]) / 2) ** 2
    return 2 * RADIUS * math.asin(math.sqrt(half))


def bearing(a, b):
    lat_a, lat_b, d = math.radians(a[0]), math.radians(b[0]), math.radians(b[1] - a[1])
    x = math.cos(lat_a) * math.sin(lat_b) - math.sin(lat_a) * math.cos(lat_b) * math.cos(d)
    return math.degrees(math.atan2(math.sin(d) * math.cos(lat_b), x)) % 360


def nearest(words, angle):
    return words[min(range(8), key=lambda i: abs((angle - 45 * i + 180) % 360 - 180))]


def turn_word(before, after):
    d = (after - before + 180) % 360 - 180
    if d < -45:
        return "left"
    return "slightly left" if d <= 0 else "slightly right" if d <= 45 else "right"


def make_route(draw):
    """A walk of two to six blocks in the published file layout."""
    place = (40.75 + draw.uniform(0, 0.02), -73.99 + draw.uniform(0, 0.02))
    heading = draw.choice((0, 90, 180, 270))
    start, ends, blocks = place, [], []
    for index in range(draw.randint(2, 6)):
        heading = (heading + draw.choice((-90, -45, 0, 45, 90)) + draw.uniform(-4, 4)) % 360
        metres = draw.uniform(20, 60) if index == 0 else draw.uniform(60, 120)
        north = metres * math.cos(math.radians(heading)) / RADIUS
        east = metres * math.sin(math.radians(heading)) / (RADIUS * math.cos(math.radians(place[0])))
        end = (place[0] + math.degrees(north), place[1] + math.degrees(east))
        degrees = round(bearing(place, end)) % 360
        lines = ['"to_next_intersection_heading": "%d (%s)"' % (degrees, nearest(COMPASS, degrees))]
        if draw.random() < 0.7:
            lines.append('"landmarks": "Shop %d is on your %s"' % (draw.randrange(200), draw.choice(RELATION)))
        blocks.append("{\n" + ",\n".join(lines) + "\n}")
        ends.append(end)
        place = end
    return {"start": start, "init_heading": draw.randint(1, 359), "geocode_list": ends, "milestone_info": "\n".join(blocks)}


class Walk:
    """The environment under the absolute rule with two attempts per point."""

    def __init__(self, num_routes=1000, pieces=5, drop_rate=0.5, attempts=2):
        draw = random.Random(7)
        self.routes = [make_route(draw) for _ in range(num_routes)]
        self.pieces, self.drop_rate, self.attempts = pieces, drop_rate, attempts

    def reset(self, seed, index):
        draw = random.Random(f"{seed}/{index}")
        route = draw.choice(self.routes)
        milestones = []
        for block in re.findall(r"\{(.*?)\}", route["milestone_info"], re.DOTALL):
            fields = {}
            for line in block.strip().splitlines():
                key, value = line.split(":", 1)
                fields[key.strip().strip('"')] = value.strip().strip(",").strip('"')
            milestones.append(fields)
        headings = [float(m["to_next_intersection_heading"].split()[0]) for m in milestones]
        words = [m["to_next_intersection_heading"].split("(")[1].strip(")") for m in milestones]
        self.sentences, before = [], route["init_heading"]
        for i, m in enumerate(milestones):
            opener = "To begin, turn " if i == 0 else "Turn "
            self.sentences.append(opener + turn_word(before, headings[i]) + " until you face " + words[i] + ".")
            goal = "your destination" if i + 1 == len(milestones) else "the next intersection"
            self.sentences.append("Walk on until " + goal + (", where " + m["landmarks"] if "landmarks" in m else "") + ".")
            before = headings[i]
        self.instructions = "\n".join("%d. %s" % (i + 1, s) for i, s in enumerate(self.sentences))
        rail = [(route["start"], "turn_direction(%s)" % words[0], NO_LANDMARK, "", 0)]
        here = route["start"]
        for i, end in enumerate(route["geocode_list"]):
            if distance(here, end) > 5:
                for j in range(1, self.pieces + 1):
                    if draw.random() < self.drop_rate:
                        continue
                    share = j / self.pieces
                    place = (here[0] + (end[0] - here[0]) * share, here[1] + (end[1] - here[1]) * share)
                    if distance(place, here) > 8 and distance(place, end) > 8:
                        rail.append((place, "forward()", NO_LANDMARK, "", 2 * i + 1))
            last = i + 1 == len(milestones)
            action = "stop()" if last else "turn_direction(%s)" % words[i + 1]
            landmark = milestones[i].get("landmarks", NO_LANDMARK)
            rail.append((end, action, landmark, "" if last else AT_INTERSECTION, 2 * i + 1 if last else 2 * i + 2))
            here = end
        self.rail, self.at, self.remaining, self.past = rail, 0, self.attempts, []
        return self.prompt()

    def observation(self):
        return "%s; %s" % (self.rail[self.at][2], self.rail[self.at][3])

    def prompt(self):
        lines = []
        for i, (observation, action) in enumerate(self.past):
            lines.append("O_%d: %s" % (i + 1, observation))
            lines.append("A_%d: %s" % (i + 1, action))
        number = len(self.past) + 1
        lines.append("O_%d: %s" % (number, self.observation()))
        lines.append("A_%d:" % number)
        return PROMPT.format(instructions=self.instructions, rule=RULE, history="\n".join(lines), skeleton=SKELETON)

    def expert(self):
        _, action, _, _, sentence = self.rail[self.at]
        return '{\n  "current observation": "%s",\n  "current instruction": "%s",\n  "action": "%s",\n}' % (
            self.observation(), self.sentences[sentence], action)

    def step(self, response):
        """Reward, whether the walk is done, the next user turn, whether it ended, whether a point was left behind."""
        self.remaining -= 1
        if self.remaining < 0:
            return -1.0, False, None, True, False
        found = {}
        try:
            found = json.loads(response)
        except ValueError:
            for key in ("current observation", "action"):
                match = re.search(r'"%s": "(.*?)"' % key, response)
                if match:
                    found[key] = match.group(1)
        right = self.rail[self.at][1]
        if found.get("action") == right:
            if right == "stop()":
                return 1.0, True, None, True, False
            self.past.append((self.observation(), right))
            self.at += 1
            self.remaining = self.attempts
            return 1.0, False, self.prompt(), False, True
        claims = "intersection" in str(found.get("current observation"))
        is_there = "intersection" in self.observation()
        reward = -1.5 if claims != is_there else -1.0
        reason = ("you are at an intersection" if is_there else "you are not at an intersection") if reward < -1 else "wrong"
        feedback = "That answer failed: %s. Please try again with one object of this form:\n%s" % (reason, SKELETON)
        return reward, False, feedback, False, False
