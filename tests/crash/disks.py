"""Disks whose power can be cut: an ext4 image inside an xfs that can copy by reference, both loop-mounted. A reflink copy
of the image is what the disk held at that moment: what the page cache of the ext4 had not synced is absent."""

import shutil
import subprocess
from pathlib import Path


def sh(*argv):
    done = subprocess.run([str(word) for word in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {done.stdout.strip()}")


def missing():
    """Why this machine cannot do it, or None."""
    import os
    if os.geteuid() != 0:
        return "it needs root, for loop devices and mounts"
    for tool, package in (("mkfs.xfs", "xfsprogs"), ("mkfs.ext4", "e2fsprogs"), ("losetup", "util-linux")):
        if shutil.which(tool) is None:
            try:
                sh("apt-get", "update", "-q")
                sh("apt-get", "install", "-y", "-q", package)
            except (RuntimeError, FileNotFoundError) as error:
                return f"{tool} is not there and cannot be installed: {error}"
    return None


class Disks:
    def __init__(self, directory, size_mib=4096):
        self.directory, self.mounts = Path(directory), []
        self.outer = self.directory / "outer"
        self.outer.mkdir(parents=True)
        image = self.directory / "outer.img"
        sh("truncate", "-s", f"{size_mib}M", image)
        sh("mkfs.xfs", "-q", "-m", "reflink=1", image)
        self.mount(image, self.outer)

    def mount(self, image, where):
        Path(where).mkdir(parents=True, exist_ok=True)
        sh("mount", "-o", "loop", image, where)
        self.mounts.append(Path(where))

    def unmount(self, where):
        sh("umount", where)
        self.mounts.remove(Path(where))

    def make(self, name, size_mib):
        """A fresh ext4, mounted."""
        image = self.outer / f"{name}.img"
        sh("truncate", "-s", f"{size_mib}M", image)
        sh("mkfs.ext4", "-q", "-F", image)
        self.mount(image, self.directory / name)
        return self.directory / name

    def cut(self, name, copy):
        """The disk `name` as a power cut leaves it now, mounted as another disk."""
        sh("cp", "--reflink=always", self.outer / f"{name}.img", self.outer / f"{copy}.img")

    def power_on(self, copy):
        self.mount(self.outer / f"{copy}.img", self.directory / copy)
        return self.directory / copy

    def drop(self, name):
        if self.directory / name in self.mounts:
            self.unmount(self.directory / name)
        (self.outer / f"{name}.img").unlink(missing_ok=True)

    def close(self):
        for where in reversed(list(self.mounts)):
            subprocess.run(["umount", "-l", str(where)], check=False)
        shutil.rmtree(self.directory, ignore_errors=True)
