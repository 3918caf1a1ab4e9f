"""Many jobs through one process: how many a second, and whether it grows. Standard library only."""

import json
import os
import statistics
import subprocess
import sys
import threading
import time

import plot
from contest import QUIET, ratios, table

JOB = '{"argv": ["true"]}\n'


def answered(base, lines, *words):
    """Wall time in ms of a batch over these lines, all of whose answers must be ok."""
    began = time.monotonic()
    done = subprocess.run([*base, "batch", *words], input=lines, capture_output=True, text=True, check=True)
    took = (time.monotonic() - began) * 1e3
    verdicts = [json.loads(line).get("verdict") for line in done.stdout.splitlines()]
    if verdicts != ["ok"] * lines.count("\n"):
        sys.exit(f"not all were ok: {set(verdicts)}")
    return took


# How often a call is made, before one that fails is an end of the bench.
ATTEMPTS = 3


def side_by_side(act, count, at_a_time):
    """Wall time in ms of so many calls, some at a time. One that fails is made again, within the time, and told of: a thread that it
    ended would leave its share undone, and the contender be the faster for it."""
    left = iter(range(count))
    lock = threading.Lock()
    failures, ends = [], []

    def one():
        for _ in range(ATTEMPTS):
            try:
                act()
                return
            except SystemExit as e:
                failures.append(e)
        ends.append(failures[-1])

    def work():
        while not ends:
            with lock:
                if next(left, None) is None:
                    return
            one()

    began = time.monotonic()
    threads = [threading.Thread(target=work) for _ in range(at_a_time)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = (time.monotonic() - began) * 1e3
    if ends:
        raise ends[0]
    if failures:
        print(f"{len(failures)} of {count} calls failed and were made again, {at_a_time} at a time; the last: {failures[-1]}")
    return took


def compared(drawing, title, contenders, base, jobs, runs):
    """Runs all of them, one after the other and some times: their wall times, and jobs a second. Portions that take turns, as the
    speed of a machine that is shared changes within the minutes which a thousand jobs take at once."""
    times = {name: [] for name in contenders}
    rounds = max(3, runs // 6)
    for _ in range(rounds):
        for name, act in contenders.items():
            times[name].append(act())
    plot.leave(drawing, f"{title}, {rounds} rounds", times)
    figures = ratios(f"{title}, {rounds} rounds (ms)", times, base)
    rows = [(name, f"{jobs * 1e3 / statistics.median(t):.0f}") for name, t in times.items()]
    table("jobs a second", ("contender", "median"), rows)
    return figures


def ours(base, lines):
    """A batch over these lines with as many slots as cores and cells made ahead, and with more slots that make their own."""
    contenders = {"runcell batch --jobs 2": lambda: answered(base, lines, "--jobs", "2")}
    for n in ("3", "4"):
        words = ["--jobs", n, "--ahead", "0"]
        contenders[f"runcell batch {' '.join(words)}"] = lambda words=words: answered(base, lines, *words)
    return contenders


def throughput(place, runs, bare, jobs, at_a_times):
    """The same number of jobs by a batch and by a loop of a bare runtime, each with several at a time. `bare` runs one by name."""
    contenders = ours(place.words("batch"), JOB * jobs)
    for name, act in bare.items():
        for at_a_time in at_a_times:
            contenders[f"{name}, {at_a_time} at a time"] = lambda act=act, n=at_a_time: side_by_side(act, jobs, n)
    return compared("batch", f"{jobs} jobs of true, whole", contenders, "runcell batch --jobs 2", jobs, runs)


OWN = '{"argv": ["true"], "avatar": {"kata": "4kq9Zx2aBc", "name": "lion"}}\n'


def again(place, runs, jobs=4000):
    """The same by one avatar's jobs in cells that serve again, and by nothing but fork and exec."""
    base = place.words("again")
    contenders = {
        f"runcell batch --reuse same-avatar --jobs {n}": lambda n=n: answered(base, OWN * jobs, "--jobs", str(n), "--reuse", "same-avatar")
        for n in (2, 3, 4)
    }
    contenders["fork + exec, 2 at a time"] = lambda: side_by_side(lambda: subprocess.run(["true"], check=True), jobs, 2)
    return compared("reuse", f"{jobs} jobs of one avatar, whole", contenders, "fork + exec, 2 at a time", jobs, runs)


def figures_of(pid):
    """What a process occupies: KiB of its own memory, and descriptors."""
    # `RssAnon` of status is a sum per cpu since Linux 6.2, of which each may be 32 pages behind.
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as f:
        anonymous = next(int(line.split()[1]) for line in f if line.startswith("Pss_Anon:"))
    return anonymous, len(os.listdir(f"/proc/{pid}/fd"))


def soak(place, _runs, jobs=100_000):
    """Very many jobs through one batch: memory and descriptors of its process in the second tenth and in the last. Cells of one job
    each take a whole hour: RUNCELL_SOAK_JOBS is how many of them, where that is less."""
    jobs_of_one = int(os.environ.get("RUNCELL_SOAK_JOBS", jobs))
    return {
        "reused": soaked(place, "soaked", jobs, OWN, "--jobs", "3", "--reuse", "same-avatar"),
        "single-use": soaked(place, "soak", jobs_of_one, JOB, "--jobs", "3"),
    }


def soaked(place, name, jobs, job, *more):
    """One such batch."""
    batch = subprocess.Popen([*place.words(name), "batch", *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=QUIET["stderr"])

    def feed():
        for n in range(jobs):
            batch.stdin.write(f'{{"id": "job-{n}", {job[1:]}'.encode())
        batch.stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    began = time.monotonic()
    tenths = [[] for _ in range(10)]
    wrong = 0
    for n, line in enumerate(batch.stdout):
        wrong += b'"verdict":"ok"' not in line
        if n % max(1, jobs // 1000) == 0 and n < jobs - 10:
            tenths[n * 10 // jobs].append(figures_of(batch.pid))
    feeder.join()
    took = time.monotonic() - began
    code = batch.wait()
    if code or wrong or n + 1 != jobs:
        sys.exit(f"exit code {code}, {n + 1} answers, {wrong} of them not ok")
    second, last = ([max(column) for column in zip(*tenths[t])] for t in (1, 9))
    left = {what: len(os.listdir(os.path.join(place.root(name), what))) for what in ("runs", "cells", "runtime")}
    rows = [("own memory, KiB", second[0], last[0], f"{last[0] / second[0]:.2f}"), ("descriptors", second[1], last[1], f"{last[1] / second[1]:.2f}")]
    table(f"{jobs} jobs through batch {' '.join(more)}: {jobs / took:.0f}/s; left behind {left}", ("the most of", "2nd tenth", "last tenth", "×"), rows)
    return {"per_second": jobs / took, "second": second, "last": last, "left": left}
