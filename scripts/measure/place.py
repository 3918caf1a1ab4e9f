"""Where a measurement takes place: runcell as an operator has it. Standard library only.

- The program is a copy of what was built. A linker writes its output through a mapping, so that the page cache holds it in single
  pages: a fault of its text then costs four times as much as one of a file that was written or read, and unmapping it nine times
  (4.6 against 1.3 µs, 230 against 26 µs; Linux 6.18).
- State lies on a tmpfs, as /run/runcell does wherever an init mounts /run; the store lies on a disk, as /var/lib/runcell does.
- The bare runtime and Docker get the same: their state beside ours, their images and bundles on the disk.
"""

import glob
import json
import os
import shutil
import subprocess
import tempfile


def binary():
    """The release build, wherever cargo has put it."""
    meta = json.loads(subprocess.check_output(["cargo", "metadata", "--format-version=1", "--no-deps"]))
    found = glob.glob(os.path.join(meta["target_directory"], "*", "release", "runcell"))
    return os.path.realpath(max(found, key=os.path.getmtime))


def memory():
    """A directory on a tmpfs, if the host has one."""
    for directory in ("/run", "/dev/shm"):
        told = subprocess.run(["stat", "--file-system", "--format=%T", directory], capture_output=True, text=True)
        if told.stdout.strip() == "tmpfs":
            return directory
    print("state lies on a disk, as there is no tmpfs: every run writes to it")
    return None


class Place:
    """Directories of one measurement, and what calls runcell there."""

    def __init__(self, built):
        self.disk = tempfile.mkdtemp(prefix="runcell-bench.")
        self.state = tempfile.mkdtemp(prefix="runcell-bench.", dir=memory())
        for directory in (self.disk, self.state):
            os.chmod(directory, 0o755)
        self.runcell = shutil.copy(built, self.file("runcell"))

    def file(self, name):
        return os.path.join(self.disk, name)

    def root(self, name):
        return os.path.join(self.state, name)

    def words(self, name):
        """Calls runcell with a state directory and a store of that name."""
        policy = self.file(f"{name}.toml")
        if not os.path.exists(policy):
            with open(policy, "w", encoding="utf-8") as f:
                f.write(f'store = "{self.file(name + ".store")}"\n')
        return [self.runcell, "--policy", policy, "--root", self.root(name)]

    def leave(self):
        for directory in (self.disk, self.state):
            shutil.rmtree(directory)
