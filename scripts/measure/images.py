"""What images cost: bringing one in, starting from it, building it again."""

import io
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import tarfile

from contest import call, interleaved, measured, ratios, table

DEBIAN = "target/measure/debian-gcc.tar"


def archive(path, layers):
    """A docker-archive of these layers, tar files as bytes or names of files, the lowest first."""

    def digest(layer):
        if isinstance(layer, bytes):
            return hashlib.sha256(layer).hexdigest()
        with open(layer, "rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()

    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest(layer)}" for layer in layers]},
    }
    names = [f"layer{n}.tar" for n in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": ["bench:latest"], "Layers": names}]
    with tarfile.open(path, "w") as out:

        def add(name, content):
            if not isinstance(content, bytes):
                out.add(content, name)
                return
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))

        for name, layer in zip(names, layers):
            add(name, layer)
        add("config.json", json.dumps(config).encode())
        add("manifest.json", json.dumps(manifest).encode())


def layer(files):
    """One layer with these files, by name and content."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as out:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            out.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def debian():
    """A Debian root filesystem with a compiler, some 300 MB, made once."""
    if not os.path.exists(DEBIAN):
        os.makedirs(os.path.dirname(DEBIAN), exist_ok=True)
        made = ["mmdebstrap", "--quiet", "--mode=root", "--format=tar", "--variant=minbase", "--include=gcc,libc6-dev", "--skip=output/dev", "bookworm"]
        subprocess.run([*made, DEBIAN + ".part"], check=True)
        os.rename(DEBIAN + ".part", DEBIAN)
    return DEBIAN


def bring_in(place, runs):
    """An OCI image of a Debian tree in a gzip layer, unpacked by us and by umoci in turn, each into a place that is new."""
    whole, layout = place.file("debian.tar"), place.file("layout")
    archive(whole, [debian()])
    subprocess.run(["skopeo", "copy", "--quiet", f"docker-archive:{whole}", f"oci:{layout}:latest"], check=True)
    os.remove(whole)
    count, peaks = [0], {"runcell image import": 0.0, "umoci unpack": 0.0}

    def act(name, argv):
        count[0] += 1
        fresh = place.file(f"place{count[0]}")
        os.sync()
        took, peak = measured([word.replace("PLACE", fresh) for word in argv])
        peaks[name] = max(peaks[name], peak)
        shutil.rmtree(fresh)
        return took

    ours = [place.runcell, "--root", "PLACE", "image", "import", layout, "--name", "debian"]
    theirs = ["umoci", "unpack", "--image", f"{layout}:latest", "PLACE"]
    contenders = {name: (lambda n=name, a=argv: act(n, a)) for name, argv in [("runcell image import", ours), ("umoci unpack", theirs)]}
    size = os.path.getsize(DEBIAN) / 1e6
    rounds = max(3, min(runs // 6, 8))
    figures = ratios(f"import of {size:.0f} MB of Debian (gzip), {rounds} interleaved runs", interleaved(contenders, rounds), "umoci unpack")
    table("peak memory (MiB)", tuple(peaks), [tuple(f"{peak:.0f}" for peak in peaks.values())])
    return {**figures, "peak_mib": peaks}


def start(place, runs):
    """A cold start of one static program: from a plain directory, and from images that hold the same in so many layers."""
    with open("/bin/busybox", "rb") as f:
        program = layer({"bin/busybox": f.read(), "bin/true": b"#!/bin/busybox true\n"})
    plain = place.file("plain")
    with tarfile.open(fileobj=io.BytesIO(program)) as tar:
        tar.extractall(plain)
    base = place.words("images")
    contenders = {"directory": lambda: call([*base, "run", "--json", "--image", plain, "--", "/bin/true"])}
    for count in [1, 12, 60, 127]:
        path = place.file("image.tar")
        more = [layer({f"opt/{n}/{m}": b"x" for m in range(20)}) for n in range(count - 1)]
        archive(path, [program, *more])
        subprocess.run([*base, "image", "import", path, "--name", f"of{count}"], check=True, capture_output=True)
        job = [*base, "run", "--json", "--image", f"of{count}", "--", "/bin/true"]
        contenders[f"{count} layer{'s' * (count > 1)}"] = lambda job=job: call(job)
    # What the same layers cost when they are one: as many files in one layer as a distribution has.
    path = place.file("image.tar")
    archive(path, [program, layer({f"opt/{n // 100}/{n}": b"x" for n in range(30000)})])
    subprocess.run([*base, "image", "import", path, "--name", "many"], check=True, capture_output=True)
    contenders["30,000 files"] = lambda: call([*base, "run", "--json", "--image", "many", "--", "/bin/true"])
    return ratios(f"cold start from an image, {runs} interleaved runs (ms)", interleaved(contenders, runs), "directory")


def build(place, runs):
    """A recipe of five stages: the first build, the same again, one stage more, the first one edited."""
    base, recipe = place.words("builds"), place.file("recipe")
    os.makedirs(recipe)
    stages = [f"echo {n} > /stage{n}" for n in range(5)]

    def write():
        text = '[base.busybox]\n' + "".join(f'\n[[stage]]\nrun = "{run}"\n' for run in stages)
        with open(os.path.join(recipe, "recipe.toml"), "w", encoding="utf-8") as f:
            f.write(text)

    def once():
        took, _ = measured([*base, "image", "build", recipe, "--json"])
        return took

    write()
    taken = {"first": [once()]}
    taken["again"] = [once() for _ in range(runs)]
    stages.append("echo 5 > /stage5")
    write()
    taken["one stage appended"] = [once()]
    stages[0] = "echo edited > /stage0"
    write()
    taken["the first edited"] = [once()]
    rows = [(name, f"{statistics.median(times):.1f}") for name, times in taken.items()]
    table("a build of five stages (ms)", ("build", "median"), rows)
    return {name: statistics.median(times) for name, times in taken.items()}
