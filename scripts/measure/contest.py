"""Fair contests: who takes part takes turns, A B C A B C …, so that a machine whose speed drifts drifts for all of them alike;
medians of whole processes, and ratios of medians, are what is reported. Standard library only.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def call(argv, code=0):
    """Wall time of one whole process in ms; its exit code must be as expected."""
    began = time.monotonic()
    got = subprocess.run(argv, **QUIET).returncode
    if got != code:
        sys.exit(f"{argv} exited with {got}")
    return (time.monotonic() - began) * 1e3


def told(argv):
    """Wall time in ms of one whole process and what it wrote to stdout: a file, as to wait at a pipe would be the measurer's time."""
    with tempfile.TemporaryFile() as out:
        began = time.monotonic()
        subprocess.run(argv, **{**QUIET, "stdout": out}, check=True)
        took = (time.monotonic() - began) * 1e3
        out.seek(0)
        return took, out.read()


# Longer than the kernel remembers: what joins a control group within some 10 ms of another does not wait for its lock (src/os/prime.rs).
REST = 0.05


def interleaved(contenders, runs, rest=0, twice=False):
    """Times of each contender, in ms; the first two rounds only warm up. Each comes after so many seconds of rest, or, where it is done
    twice, right after one of its own kind: what one leaves behind in the kernel, such as a lock made ready, is then its own."""
    times = {name: [] for name in contenders}
    for turn in range(runs + 2):
        for name, act in contenders.items():
            time.sleep(rest)
            if twice:
                act()
            took = act()
            if turn >= 2:
                times[name].append(took)
    return times


def table(title, head, rows):
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    print(f"\n{title}")
    for row in [head, *rows]:
        print("  " + "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())


STARTER = """
import os, sys, time
began = time.monotonic()
streams = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1)]
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=streams)
_, status, usage = os.wait4(pid, 0)
print(status, (time.monotonic() - began) * 1e3, usage.ru_maxrss)
"""


def measured(argv):
    """Wall time in ms and peak memory in MiB of one whole process and all that it waits for.

    A process begins with the peak of whoever started it (getrusage(2) survives execve), so a small one starts it: its own 9 MiB
    or so are the least that can be told.
    """
    told = subprocess.run([sys.executable, "-I", "-S", "-c", STARTER, *argv], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    status, took, peak = told.stdout.split()[-3:]
    if int(status):
        sys.exit(f"{argv} ended with status {int(status)}")
    return float(took), int(peak) / 1024


def ratios(title, times, reference):
    """The table of a contest, each against one of them, and the same as figures."""
    base = statistics.median(times[reference])
    rows, figures = [], {}
    for name, taken in times.items():
        median, high = statistics.median(taken), sorted(taken)[min(len(taken) - 1, int(len(taken) * 0.99))]
        rows.append((name, f"{min(taken):.1f}", f"{median:.1f}", f"{high:.1f}", f"{median / base:.2f}", f"{median - base:+.1f}"))
        figures[name] = {"median_ms": median, "p99_ms": high, "ratio": median / base}
    table(title, ("contender", "min", "median", "p99", f"× {reference}", "ms more"), rows)
    return figures
