"""The benchmarks behind the README's figures."""

import argparse
import functools
import glob
import itertools
import json
import os
import queue
import shutil
import statistics
import subprocess
import sys
import time

import batch
import docker
import images
import katas
import plot
from contest import REST, call, interleaved, measured, ratios, table, told
from place import Place, binary

OPERATORS = {"eq": "SCMP_CMP_EQ", "ne": "SCMP_CMP_NE", "le": "SCMP_CMP_LE", "lt": "SCMP_CMP_LT", "ge": "SCMP_CMP_GE", "gt": "SCMP_CMP_GT"}


def oci_arguments(arguments):
    """Conditions on arguments in the words of the OCI runtime specification."""
    converted = []
    for a in arguments:
        if isinstance(a["op"], dict):
            mask = a["op"]["masked_eq"]
            converted.append({"index": a["index"], "value": mask, "valueTwo": a["val"], "op": "SCMP_CMP_MASKED_EQ"})
        else:
            converted.append({"index": a["index"], "value": a["val"], "op": OPERATORS[a["op"]]})
    return converted


def allow_list(architectures):
    """Puts the whole allow-list that init loads ready-made into config.json, where the runtime must build it anew each time."""

    def edit(config):
        with open("bundles/baseline/seccomp.json", encoding="utf-8") as f:
            filters = json.load(f)
        syscalls, plain = [], []
        for rule in filters["1-allow"]["filter"]:
            if rule.get("args"):
                syscalls.append({"names": [rule["syscall"]], "action": "SCMP_ACT_ALLOW", "args": oci_arguments(rule["args"])})
            else:
                plain.append(rule["syscall"])
        syscalls.append({"names": plain, "action": "SCMP_ACT_ALLOW"})
        denied = [rule["syscall"] for rule in filters["2-deny"]["filter"] if not rule.get("args")]
        syscalls.append({"names": denied, "action": "SCMP_ACT_ERRNO", "errnoRet": 1})
        config["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "architectures": [f"SCMP_ARCH_{a}" for a in architectures],
            "syscalls": syscalls,
        }
        return config

    return edit


# The runtime that is measured, ours and bare, and the flags that it needs wherever it is called (src/runtime/quirks.rs).
RUNTIME = "runc"
FLAGS = {"crun": ["--cgroup-manager", "cgroupfs"]}


def edited(bundle, edit):
    """Writes a bundle's configuration anew."""
    path = os.path.join(bundle, "config.json")
    with open(path, encoding="utf-8") as f:
        config = edit(json.load(f))
    with open(path, "w", encoding="utf-8") as f:
        json.dump(config, f)


def apart(n):
    """The edit of a configuration that gives it a control group of its own."""

    def edit(config):
        config["linux"]["cgroupsPath"] += f"-{n}"
        return config

    return edit


class Bundle:
    """A bundle that runcell has written, for a bare runtime to run again and again, by so many at a time at the most. Each of these has a
    copy with a control group of its own: of two in one group one fails at times (measured: 1 to 3 of 100, runc 1.1.5)."""

    def __init__(self, place, name, edit=None, at_a_time=1):
        self.dir = place.file(name)
        self.state = place.root(RUNTIME)
        self.numbers = itertools.count()
        self.free = queue.SimpleQueue()
        job = place.file("job.json")
        with open(job, "w", encoding="utf-8") as f:
            json.dump({"argv": ["true"]}, f)
        subprocess.run([*place.words("bundle"), "bundle", "--job", job, "--out", self.dir], check=True, stdout=subprocess.DEVNULL)
        if edit:
            edited(self.dir, edit)
        self.free.put(self.dir)
        for n in range(1, at_a_time):
            copy = f"{self.dir}-{n}"
            shutil.copytree(self.dir, copy, symlinks=True)
            edited(copy, apart(n))
            self.free.put(copy)

    def run(self):
        directory = self.free.get()
        try:
            name = f"bench-{os.getpid()}-{os.path.basename(self.dir)}-{next(self.numbers)}"
            return call([RUNTIME, *FLAGS.get(RUNTIME, []), "--root", self.state, "run", "--bundle", directory, name])
        finally:
            self.free.put(directory)


def cold(place, runs):
    """A cold one-shot against a bare runtime on the very same bundle, and against lighter sandboxes."""
    same = Bundle(place, "same")
    native = Bundle(place, "native", allow_list(["X86_64"]))
    listed = Bundle(place, "listed", allow_list(["X86_64", "X86", "X32"]))
    bwrap = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "true"]
    contenders = {
        "runcell run --json": lambda: call([*place.words("cold"), "--runtime", RUNTIME, "run", "--json", "--", "true"]),
        f"{RUNTIME} run, same bundle": same.run,
        f"{RUNTIME} run, + allow-list (native)": native.run,
        f"{RUNTIME} run, + allow-list (3 arch)": listed.run,
        "bwrap --unshare-all": lambda: call(bwrap),
        "fork + exec": lambda: call(["true"]),
    }
    # Somebody who starts one container on a quiet host waits for the lock of all control groups; in a crowd the one before has.
    rested = interleaved(contenders, runs, REST)
    plot.leave("cold", "a cold one-shot of true", rested)
    crowded = interleaved({name: contenders[name] for name in list(contenders)[:4]}, runs, twice=True)
    return {
        **against_ours(f"cold start of `true`, whole process, {runs} interleaved runs, each after a rest (ms)", rested),
        "at once": against_ours("the same, each right after one of its own kind (ms)", crowded),
    }


def against_ours(title, times):
    """The table of a contest that says how many times each one's time is ours, and the same as figures."""
    ours = statistics.median(times["runcell run --json"])
    rows, figures = [], {}
    for name, taken in times.items():
        median, high = statistics.median(taken), sorted(taken)[min(len(taken) - 1, int(len(taken) * 0.99))]
        rows.append((name, f"{min(taken):.1f}", f"{median:.1f}", f"{high:.1f}", f"{ours / median:.2f}"))
        figures[name] = {"median_ms": median, "p99_ms": high, "ratio": ours / median}
    table(title, ("contender", "min", "median", "p99", "runcell is ×"), rows)
    return figures


def warm(place, runs):
    """A warm one-shot, as a whole process and from dispatch to its end, against bubblewrap and fork+exec."""
    runs = max(runs, 100)
    base = place.words("warm")
    inside = []

    def one():
        took, answer = told([*base, "run", "--json", "--", "true"])
        outcome = json.loads(answer)
        if outcome["start"] != "warm":
            sys.exit("no waiting cell was taken")
        phases = outcome["phases"]
        inside.append((phases["start_ns"] + phases["run_ns"]) / 1e6)
        return took

    subprocess.run([*base, "warm", "--count", str(runs + 2), "--", "true"], check=True, stdout=subprocess.DEVNULL)
    bwrap = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "true"]
    contenders = {"runcell run --json, warm": one, "bwrap --unshare-all": lambda: call(bwrap), "fork + exec": lambda: call(["true"])}
    times = interleaved(contenders, runs)
    times["runcell, dispatch to end"] = inside[2:]
    plot.leave("warm", "a warm one-shot of true", times)
    figures = ratios(f"warm one-shot of `true`, {runs} interleaved runs (ms)", times, "bwrap --unshare-all")
    exec_ms = figures["fork + exec"]["median_ms"]
    figures["dispatch to end × fork + exec"] = figures["runcell, dispatch to end"]["median_ms"] / exec_ms
    print(f"  dispatch to end is {figures['dispatch to end × fork + exec']:.2f} × fork + exec")
    return figures


def many(place, runs, jobs, at_a_time):
    """Jobs through a batch against loops of a bare runtime."""
    most = max(at_a_time)
    bare = {
        "runc run, same bundle": Bundle(place, "many", None, most).run,
        "runc run, + allow-list (native)": Bundle(place, "many-native", allow_list(["X86_64"]), most).run,
        "runc run, + allow-list (3 arch)": Bundle(place, "many-listed", allow_list(["X86_64", "X86", "X32"]), most).run,
    }
    return batch.throughput(place, runs, bare, jobs, at_a_time)


def output(place, _runs):
    """Memory of runcell itself while a job prints 1 GiB: kept to the cap, the rest counted or cut short."""
    rows, figures = [], {}
    for cap in ["1MiB", "8MiB"]:
        job = ["--output", cap, "--wall", "120s", "--", "sh", "-c", "head -c 1073741824 /dev/zero"]
        took, rss = measured([*place.words("output"), "run", "--json", *job])
        rows.append((cap, f"{rss:.1f}", f"{took / 1e3:.2f}"))
        figures[cap] = {"rss_mib": rss}
    table("peak memory of runcell while a job prints 1 GiB", ("cap", "RSS MiB", "s"), rows)
    return figures


def leftovers(root):
    groups = [d for d in glob.glob("/sys/fs/cgroup/**/runcell/*", recursive=True) if os.path.isdir(d)]
    with open("/proc/mounts", encoding="utf-8") as f:
        mounts = [line for line in f if root in line]
    processes = []
    for status in glob.glob("/proc/[0-9]*/cgroup"):
        try:
            with open(status, encoding="utf-8") as f:
                processes += [status] if "/runcell/" in f.read() else []
        except OSError:
            pass
    count = lambda *parts: len(os.listdir(os.path.join(root, *parts)))
    return {"cgroups": len(groups), "mounts": len(mounts), "runtime state": count("runtime"), "runs": count("runs"), "processes": len(processes)}


def sequential(place, _runs, total=500):
    """Many runs one after the other, and what they leave."""
    began = time.monotonic()
    for _ in range(total):
        call([*place.words("sequential"), "run", "--json", "--", "true"])
    took = time.monotonic() - began
    left = leftovers(place.root("sequential"))
    table(f"{total} runs one after the other: {total / took:.0f}/s; left behind", tuple(left), [tuple(left.values())])
    return {"per_second": total / took, "left": left}


def main():
    global RUNTIME
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--only", default="cold,warm,batch,reuse,output,sequential,start,build,import,press")
    parser.add_argument("--runtime", default="runc", help="for --only cold: another than runc, by the name of what is installed")
    parser.add_argument("--jobs", type=int, default=100, help="for batch and docker: how many at once, before it is another's turn")
    parser.add_argument("--at-a-time", default="2,3,4", help="for batch and docker: how many calls of a rival are made at once; the best counts")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    if args.runtime != "runc" and args.only != "cold":
        parser.error("--runtime is for --only cold")
    RUNTIME = args.runtime
    at_a_time = [int(n) for n in args.at_a_time.split(",")]
    place = Place(binary())
    try:
        known = {"cold": cold, "warm": warm, "output": output, "sequential": sequential}
        known |= {"reuse": batch.again, "soak": batch.soak, "press": katas.press}
        rivals = {"batch": many, "docker": docker.throughput}
        known |= {name: functools.partial(act, jobs=args.jobs, at_a_time=at_a_time) for name, act in rivals.items()}
        known |= {"start": images.start, "build": images.build, "import": images.bring_in}
        figures = {name: known[name](place, args.runs) for name in args.only.split(",")}
    finally:
        place.leave()
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(figures, f, indent=2)
    else:
        print("\n" + json.dumps(figures))


main()
