#!/usr/bin/env python3
"""The README's first program, in a new package made by the commands that the README prints.

It is run once alone and once as two processes of one cluster, of which the first ends first: its counter
goes on in the second. Exits with 1 and the reason if anything is not as the README says.
"""

import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
WAIT = 60


def fail(why):
    sys.exit(f"the README's program: {why}")


def blocks(language):
    """The blocks of this language in the README's section with the program."""
    section = (ROOT / "README.md").read_text().split("## Thirty lines", 1)[1].split("\n## ", 1)[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.S)


def make(package):
    """Makes the package as a reader would. The crate is this one, and its dependencies those it is tested with."""
    run = lambda *command: subprocess.run(command, cwd=package, check=True)
    run("cargo", "init", "--quiet", "--vcs", "none", "--name", "first")
    for line in blocks("sh")[0].splitlines():
        words = shlex.split(line)
        if words[:2] != ["cargo", "add"]:
            fail(f"what is {line!r}?")
        others = [word for word in words[2:] if word != "actix-hub"]
        run("cargo", "add", "--quiet", *others)
        if "actix-hub" in words:
            run("cargo", "add", "--quiet", "--path", str(ROOT))
    (package / "Cargo.lock").write_bytes((ROOT / "Cargo.lock").read_bytes())
    (package / "src/main.rs").write_text(blocks("rust,no_run")[0])
    run("cargo", "build", "--quiet")


class Process:
    """A node, and the lines that it prints."""

    def __init__(self, program, *arguments):
        self.process = subprocess.Popen(
            [program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.overdue = threading.Timer(WAIT, self.process.kill)
        self.overdue.start()

    def prints(self, wanted):
        line = self.process.stdout.readline().rstrip("\n")
        if line != wanted:
            fail(f"it prints {line!r} and not {wanted!r}")

    def waits(self):
        """Whether it waits for Ctrl-C; before that the signal would kill it."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        caught = int(re.search(r"^SigCgt:\s*(\w+)", status, re.M)[1], 16)
        return caught >> (signal.SIGINT - 1) & 1

    def ends(self):
        """Ctrl-C ends it well, and without another word."""
        while self.process.poll() is None and not self.waits():
            time.sleep(0.01)
        self.process.send_signal(signal.SIGINT)
        rest = self.process.stdout.read()
        code = self.process.wait()
        self.overdue.cancel()
        if code != 0 or rest:
            fail(f"it ends with {code} and says {rest!r}")


def main():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
    os.environ["CARGO_TARGET_DIR"] = str(target)
    with tempfile.TemporaryDirectory() as folder:
        make(pathlib.Path(folder))
    program = target / "debug/first"
    alone = Process(program)
    alone.prints("2")
    alone.ends()
    first = Process(program)
    first.prints("2")
    second = Process(program, "4002")
    second.prints("4")
    first.ends()
    third = Process(program)
    third.prints("6")
    second.ends()
    third.ends()
    print("the README's program runs as printed, alone and as two processes")


main()
