"""Against `docker run`, by a daemon of the bench's own: in its own mount and pid namespaces, without any network of the host's, so
that nothing of it is left. Standard library only."""

import contextlib
import glob
import io
import json
import os
import shutil
import subprocess
import tarfile
import time

from batch import compared, ours, side_by_side
from contest import QUIET, call

DAEMON, CLIENT = "/usr/sbin/dockerd", "/usr/bin/docker"
# What every job of runcell has, in Docker's words.
LIKE_OURS = [
    *("--rm", "--network", "none", "--memory", "512m", "--memory-swap", "512m", "--pids-limit", "128", "--cap-drop", "ALL"),
    *("--read-only", "--tmpfs", "/tmp", "--security-opt", "no-new-privileges", "--user", "1000"),
]


def program(directory):
    """A root with nothing in it but busybox's `true` and what every cell mounts over."""
    for name in ("bin", "dev", "proc", "sys", "tmp", "etc", "sandbox"):
        os.makedirs(os.path.join(directory, name))
    shutil.copy("/bin/busybox", os.path.join(directory, "bin", "busybox"))
    os.symlink("busybox", os.path.join(directory, "bin", "true"))


@contextlib.contextmanager
def daemon(place):
    """A client's words for as long as its daemon lives."""
    base = place.file("docker")
    os.makedirs(base)
    group = f"runcell-bench-{os.getpid()}"
    at = lambda name: os.path.join(base, name)
    with open(at("none.json"), "w", encoding="utf-8") as f:
        f.write("{}")
    own = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
    words = ["--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false", "--cgroup-parent", f"/{group}"]
    words += ["--data-root", at("data"), "--exec-root", place.root("docker"), "-p", at("pid"), "--config-file", at("none.json")]
    with open(at("log"), "wb") as log:
        process = subprocess.Popen([*own, DAEMON, *words, "-H", f"unix://{at('sock')}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    client = [CLIENT, "-H", f"unix://{at('sock')}"]
    try:
        until = time.monotonic() + 60
        while subprocess.run([*client, "version"], **QUIET).returncode:
            if process.poll() is not None or time.monotonic() > until:
                with open(at("log"), encoding="utf-8") as log:
                    raise RuntimeError(f"dockerd does not answer: {log.read()[-2000:]}")
            time.sleep(0.2)
        yield client
    finally:
        process.kill()
        process.wait()
        emptied(group)


def emptied(group):
    """Removes the daemon's own groups: what was in them died with it."""
    for top in glob.glob(f"/sys/fs/cgroup/{group}") + glob.glob(f"/sys/fs/cgroup/*/{group}"):
        for directory, _, _ in os.walk(top, topdown=False):
            for _ in range(50):
                try:
                    os.rmdir(directory)
                    break
                except OSError:
                    time.sleep(0.1)


def throughput(place, runs, jobs, at_a_time):
    """The same jobs by a batch of single-use cells and by `docker run`, each with several at a time; nothing where there is no daemon."""
    if not (os.path.exists(DAEMON) and os.path.exists(CLIENT)):
        print("\ndocker: left out, as it is not installed (apt-get install docker.io)")
        return None
    image = place.file("docker-image")
    program(image)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(image, ".")
    lines = json.dumps({"argv": ["/bin/true"], "image": image}) + "\n"
    base = place.words("docker-rival")
    with daemon(place) as client:
        subprocess.run([*client, "import", "-", "alone"], input=packed.getvalue(), stdout=subprocess.DEVNULL, check=True)
        act = lambda: call([*client, "run", *LIKE_OURS, "alone", "/bin/true"])
        contenders = ours(base, lines * jobs)
        for n in at_a_time:
            contenders[f"docker run, {n} at a time"] = lambda n=n: side_by_side(act, jobs, n)
        return compared("docker", f"{jobs} jobs of true in a root of busybox, whole", contenders, "runcell batch --jobs 2", jobs, runs)
