"""Writes scripts/hot.ld: what a service's `runcell run` executes, in the order in which it is first needed.

A release binary has some seven thousand functions, and such a run executes eight hundred of them. Where these lie apart, every
one costs a page fault, which maps sixteen pages that must be taken down again at the end. The linker lays them side by side
(scripts/link.rs), in a fifth of the binary's text. Names that no longer exist do no harm; when they have become many, a start has
become slower, and this is run again: scripts/measure/hot.py [--check]. x86-64 alone, as root.

How it is known what runs: a warm and a cold run are executed step by step (ptrace(2), PTRACE_SINGLESTEP), each step's address
looked up among the binary's symbols. Of init, which lives out of reach, all there is belongs to the list.
"""

import bisect
import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile

from place import binary

SCRIPT = "scripts/hot.ld"
ADDR_NO_RANDOMIZE = 0x0040000
TRACEME, PEEKUSER, SINGLESTEP, SETOPTIONS, TRACECLONE = 0, 3, 9, 0x4200, 8
RIP = 16 * 8  # struct user_regs_struct
WALL = 0x40000000  # threads too

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def steps(words):
    """The addresses that the program executes, relative to its image, each once, in the order of their first use."""
    pid = os.fork()
    if pid == 0:
        libc.personality(ADDR_NO_RANDOMIZE)
        libc.ptrace(TRACEME, 0, None, None)
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
        os.execv(words[0], words)
    os.waitpid(pid, 0)
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps:
        base = min(int(line.split("-")[0], 16) for line in maps if line.rstrip().endswith(words[0]))
    libc.ptrace(SETOPTIONS, pid, None, TRACECLONE)
    libc.ptrace(SINGLESTEP, pid, None, None)
    seen = {}
    while True:
        who, status = os.waitpid(-1, WALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            if who == pid:
                assert status == 0, f"{words} ended with {status}"
                return list(seen)
            continue
        seen.setdefault(libc.ptrace(PEEKUSER, who, RIP, None) - base)
        stopped = os.WSTOPSIG(status)
        libc.ptrace(SINGLESTEP, who, None, 0 if stopped in (signal.SIGTRAP, signal.SIGSTOP) else stopped)


def symbols(program):
    """Address, end and name of every function."""
    found = []
    for line in subprocess.check_output(["nm", "-S", program], text=True).splitlines():
        words = line.split(None, 3)
        if len(words) == 4 and words[2] in "tTwWi":
            start = int(words[0], 16)
            found.append((start, start + int(words[1], 16), words[3]))
    return sorted(found)


def place(member):
    """The linker's name of a member of libc.a. The first of them is a copy of ours, in an archive of its own (scripts/cpuid.rs)."""
    return f"*{member}" if member == "libc-start.o" else f"*libc.a:{member}"


def members():
    """Which member of libc.a has a function; none where several have one of that name."""
    archive = subprocess.check_output(["cc", "-print-file-name=libc.a"], text=True).strip()
    where = {}
    for line in subprocess.check_output(["nm", "-A", archive], text=True, stderr=subprocess.DEVNULL).splitlines():
        place, rest = line.split(".o:", 1)
        words = rest.split()
        if len(words) == 3 and words[1] in "tTwWi":
            where.setdefault(words[2], set()).add(place.rsplit(":", 1)[1] + ".o")
    return {name: next(iter(homes)) for name, homes in where.items() if len(homes) == 1}


def bare(name):
    """A function's name whatever the compiler and the crates' versions, which are what its hashes stand for."""
    name = re.sub(r"17h[0-9a-f]{16}E", "17h*E", name)
    return re.sub(r"Cs[0-9A-Za-z]{6,}_", "Cs*_", name)


def patterns(names, known):
    """The names' sections. A generic function has one name for all its types: where those that do not run are larger than those
    that do, it is named with its hash, and holds for one compiler and one state of the crates alone."""
    size, runs = {}, {}
    for start, end, name in known:
        size[bare(name)] = size.get(bare(name), 0) + end - start
        if name in names:
            runs[bare(name)] = runs.get(bare(name), 0) + end - start
    return {name: ".text." + (bare(name) if size[bare(name)] <= 2 * runs[bare(name)] else name) for name in names}


def hot(program, root):
    place = [program, "--root", root]
    known = symbols(program)
    starts = [s[0] for s in known]
    subprocess.run([*place, "warm", "--count", "1"], check=True, stdout=subprocess.DEVNULL)
    names = {}
    for more in [], ["--cold"]:
        for address in steps([*place, "run", "--json", *more, "--", "true"]):
            start, end, name = known[bisect.bisect_right(starts, address) - 1]
            if start <= address < max(end, start + 1):
                names.setdefault(name)
    return names, known


def main():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as work:
        os.chmod(work, 0o755)
        names, known = hot(binary(), os.path.join(work, "root"))
    homes, sections = members(), patterns(names, known)
    lines = dict.fromkeys(
        f"*({sections[name]})" if name.startswith(("_ZN", "_R")) else f"{place(homes[name])}(.text .text.*)"
        for name in names
        if name.startswith(("_ZN", "_R")) or name in homes
    )
    if "--check" in sys.argv:
        with open(SCRIPT, encoding="ascii") as f:
            had = {line.strip() for line in f}
        missing = [line for line in lines if line not in had]
        print(f"{len(lines) - len(missing)} of {len(lines)} functions and members are in {SCRIPT}")
        return
    with open(SCRIPT + ".new", "w", encoding="ascii") as f:
        f.write("/* Written by scripts/measure/hot.py, which says why. */\nSECTIONS\n{\n  .text.hot :\n  {\n")
        f.writelines(f"    {line}\n" for line in lines)
        f.write("    *(.text._ZN7runcell5guest*)\n  }\n}\nINSERT BEFORE .text;\n")
    os.replace(SCRIPT + ".new", SCRIPT)
    print(f"{len(lines)} functions and members in {SCRIPT}")


if __name__ == "__main__":
    main()
