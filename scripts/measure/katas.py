"""From the press of an avatar's button to its colour, and to the end of all."""

import json
import subprocess
import sys
import time

from contest import call, interleaved, ratios

KATA = "4kq9Zx2aBc"


def press(place, runs):
    """A trivial shell kata: with a cell that waits, without, and an ordinary run of the same script."""
    base = place.words("katas")
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    job, shape = (place.file(name) for name in ("press.json", "shape.json"))
    with open(job, "w", encoding="utf-8") as f:
        json.dump({"files": {"answer": "42\n"}}, f)
    with open(shape, "w", encoding="utf-8") as f:
        json.dump({"avatar": {"kata": KATA, "name": "lion"}}, f)
    script = 'read n < answer; echo $n >> log; [ "$n" = 42 ]'
    subprocess.run([*base, "kata", "new", KATA], **quiet)
    subprocess.run([*base, "kata", "avatar", KATA, "lion", "--files", json.dumps({"cyber-dojo.sh": script})], **quiet)

    def colour(words):
        began = time.monotonic()
        with subprocess.Popen([*base, "kata", "run", KATA, "lion", "--job", job, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as ran:
            answer = json.loads(ran.stdout.readline())
            took = (time.monotonic() - began) * 1e3
        if answer.get("colour") != "green":
            sys.exit(f"not green: {answer}")
        return took

    def warm():
        subprocess.run([*base, "warm", "--job", shape], **quiet)
        return colour([])

    ordinary = [*base, "run", "--json", "--cold", "--", "sh", "-c", "true"]
    contenders = {
        "kata run, a cell waits": warm,
        "kata run --cold": lambda: colour(["--cold"]),
        "run --json --cold, to its end": lambda: call(ordinary),
    }
    figures = ratios(f"press to colour of a trivial shell kata, {runs} interleaved runs (ms)", interleaved(contenders, runs), "kata run --cold")
    subprocess.run([*base, "kata", "retire", KATA], **quiet)
    return figures
