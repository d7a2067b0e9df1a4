"""Reference numbers for the V-IRL tests: `python virl.py > virl.json`. Python 3.11, mpmath 1.3.

Geodesy by vectors on the sphere in 50 digits, another way than the formulas in the crate. Rails by a second, plain
implementation of the task's definition, with every point kept (drop rate 0) and panoramas found by looking at all of them.
"""

import json
import random

from mpmath import mp, mpf, atan2, cos, degrees, radians, sin, sqrt

mp.dps = 50
RADIUS = mpf("6371008.8")
COMPASS = ["north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest"]
RELATIONS = ["front", "right front", "right", "right behind", "behind", "left behind", "left", "left front"]


def vector(place):
    lat, lon = radians(mpf(place[0])), radians(mpf(place[1]))
    return (cos(lat) * cos(lon), cos(lat) * sin(lon), sin(lat))


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def cross(a, b):
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def distance(a, b):
    a, b = vector(a), vector(b)
    normal = cross(a, b)
    return RADIUS * atan2(sqrt(dot(normal, normal)), dot(a, b))


def bearing(a, b):
    """Angle between the tangents at `a` towards the pole and towards `b`."""
    here, there = vector(a), vector(b)
    lat, lon = radians(mpf(a[0])), radians(mpf(a[1]))
    north = (-sin(lat) * cos(lon), -sin(lat) * sin(lon), cos(lat))
    east = (-sin(lon), cos(lon), mpf(0))
    return degrees(atan2(dot(there, east), dot(there, north))) % 360


def nearest_word(words, angle):
    angle = angle % 360
    differences = [min(abs(angle - 45 * i), 360 - abs(angle - 45 * i)) for i in range(8)]
    return words[differences.index(min(differences))]


def turn(before, after, wrap):
    d = after - before
    if wrap:
        while d > 180:
            d -= 360
        while d <= -180:
            d += 360
    if d < -45:
        return "left"
    if d <= 0:
        return "slightly left"
    if d <= 45:
        return "slightly right"
    return "right"


def rail(route, *, wrap=True, advance=True, relocation=None, keep_double=False, pieces=5):
    """`relocation`: None, "identity", or a list of places."""
    headings, landmarks, ends = route["headings"], route["landmarks"], route["ends"]
    count = len(ends)
    sentences = []
    before = route["init_heading"]
    for i in range(count):
        side, word = turn(before, headings[i], wrap), nearest_word(COMPASS, headings[i])
        sentences.append(("To begin, turn " if i == 0 else "Turn ") + side + " until you face " + word + ".")
        goal = "your destination" if i == count - 1 else "the next intersection"
        seen = "" if landmarks[i] is None else ", where " + landmarks[i]
        sentences.append("Walk on until " + goal + seen + ".")
        before = headings[i]

    def turns_at(i, before):
        if i == count:
            return "stop()", "stop()"
        absolute = "turn_direction(%s)" % nearest_word(COMPASS, headings[i])
        return absolute, "turn_direction(%s)" % turn(before, headings[i], wrap)

    points = []
    pointer = 0

    def add(place, heading, actions, observation, sentence):
        points.append({"geocode": [float(place[0]), float(place[1])], "heading": heading, "absolute": actions[0],
                       "relative": actions[1], "observation": observation,
                       "instruction_idx": min(sentence, 2 * count - 1) + 1})

    add(route["start"], route["init_heading"], turns_at(0, route["init_heading"]), "No landmark is near;", pointer)
    pointer += 1
    here = route["start"]
    for i in range(count):
        end = ends[i]
        long_leg = distance(here, end) > 5
        if long_leg:
            for j in range(1, pieces + 1):
                share = mpf(j) / pieces
                place = [mpf(here[k]) + (mpf(end[k]) - mpf(here[k])) * share for k in range(2)]
                if relocation is None:
                    if j == pieces and not keep_double:
                        continue
                else:
                    if relocation != "identity":
                        reached = min(relocation, key=lambda p: distance(p, place))
                        if distance(reached, place) > 20:
                            continue
                        place = reached
                    if distance(place, here) <= 8 or distance(place, end) <= 8:
                        continue
                add(place, headings[i], ("forward()", "forward()"), "No landmark is near;", pointer)
        if long_leg or advance:
            pointer += 1
        is_last = i == count - 1
        observation = (landmarks[i] or "No landmark is near") + ";" + ("" if is_last else " You are at an intersection")
        add(end, headings[i], turns_at(i + 1, headings[i]), observation, pointer)
        pointer += 1
        here = end
    return {"instructions": sentences, "points": points}


def walk(start, legs):
    """Places along `legs` of (bearing, metres), on a plane at the start; seven decimals."""
    places, here = [], start
    for angle, metres in legs:
        north, east = metres * cos(radians(mpf(angle))), metres * sin(radians(mpf(angle)))
        lat = mpf(here[0]) + degrees(north / RADIUS)
        lon = mpf(here[1]) + degrees(east / (RADIUS * cos(radians(mpf(here[0])))))
        here = [round(float(lat), 7), round(float(lon), 7)]
        places.append(here)
    return places


def route(start, init_heading, legs, landmarks):
    return {"start": start, "init_heading": init_heading, "ends": walk(start, legs),
            "headings": [round(angle) % 360 for angle, _ in legs], "landmarks": landmarks}


ROUTES = [
    route([40.75, -73.99], 200, [(29, 40), (119, 90), (29, 75), (340, 110)],
          ["Amber Bakery is on your right", None, "Olive Hotel is on your left behind", "Raven Cafe is on your front"]),
    # From 350 to 10 degrees and back; a leg of 3 m in the middle.
    route([40.7512, -73.9811], 350, [(10, 30), (10, 3), (350, 80), (180, 64)],
          [None, "Maple Books is on your right behind", None, "Daisy Museum is on your behind"]),
    # One segment; a short first leg; far from New York and south of the equator.
    route([-33.8688, 151.2093], 1, [(270, 4)], ["Thistle Cinema is on your left front"]),
    route([51.5074, -0.1278], 90, [(45, 22), (135, 61)], ["Ginger Florist is on your left", "Indigo Gallery is on your right front"]),
]


def milestone_info(r):
    blocks = []
    for heading, landmark in zip(r["headings"], r["landmarks"]):
        lines = ['"to_next_intersection_heading": "%d (%s)"' % (heading, nearest_word(COMPASS, heading))]
        if landmark is not None:
            lines.append('"landmarks": "%s"' % landmark)
        blocks.append("{\n" + ",\n".join(lines) + "\n}")
    return "\n".join(blocks)


def record(r):
    return {"start_place": {"name": "start", "relocated_geocode": r["start"]},
            "dest_place": {"name": "goal", "geocode": r["ends"][-1]}, "init_heading": r["init_heading"],
            "milestone_info": milestone_info(r), "route_results": {"geocode_list": r["ends"], "landmark_list": []}}


def main():
    draw = random.Random(1)
    pairs = [([40.75, -73.99], [40.751, -73.99]), ([40.75, -73.99], [40.75, -73.989]), ([0.0, 0.0], [0.0, 1.0]),
             ([51.5074, -0.1278], [48.8566, 2.3522]), ([-33.8688, 151.2093], [-33.869, 151.209]),
             ([10.0, 179.9995], [10.0, -179.9995]), ([40.75, -73.99], [40.75, -73.99])]
    for _ in range(60):
        a = [round(draw.uniform(-80, 80), 6), round(draw.uniform(-179, 179), 6)]
        pairs.append((a, [round(a[0] + draw.uniform(-2e-3, 2e-3), 6), round(a[1] + draw.uniform(-2e-3, 2e-3), 6)]))
    geodesy = [{"from": a, "to": b, "distance": float(distance(a, b)), "bearing": float(bearing(a, b)) if a != b else 0.0}
               for a, b in pairs]
    words = [{"heading": h, "compass": nearest_word(COMPASS, h)} for h in [0.25 + 0.5 * i for i in range(720)]]
    relations = []
    turns = []
    for _ in range(300):
        h, b = draw.randrange(360), draw.randrange(360)
        relations.append({"heading": h, "bearing": b, "words": nearest_word(RELATIONS, b - h)})
        turns.append({"from": h, "to": b, "wrapped": turn(h, b, True), "plain": turn(h, b, False)})
    rails = []
    for r in ROUTES:
        panoramas = [[round(r["start"][0] + draw.uniform(-1.2e-3, 1.6e-3), 7), round(r["start"][1] + draw.uniform(-1.6e-3, 1.6e-3), 7)]
                     for _ in range(220)]
        cases = [("plain", {}), ("nowrap", {"wrap": False}), ("stay", {"advance": False}), ("double", {"keep_double": True}),
                 ("identity", {"relocation": "identity"}), ("map", {"relocation": panoramas})]
        rails.append({"record": record(r), "panoramas": panoramas,
                      "cases": [{"name": name, **rail(r, **options)} for name, options in cases]})
    print(json.dumps({"geodesy": geodesy, "compass": words, "relations": relations, "turns": turns, "rails": rails}, separators=(",", ":")))


if __name__ == "__main__":
    main()
