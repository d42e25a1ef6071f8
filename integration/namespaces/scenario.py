"""What all scenarios have in common: nodes, load, expectations, and one line of JSON."""
import json
import os
import shutil
import sys
import time

from net import Net, clean
from node import PORT, SECRET, Node, Unanswered

# The nodes have the default settings; in seconds.
HEARTBEAT = 1.0
WINDOW = 3.0
# What a loaded machine may take besides.
SLACK = 1.0
# From a break until calls are answered again: the suspicion and two heartbeats.
UNANSWERED = WINDOW + 2 * HEARTBEAT + SLACK
# How long a whole scenario may take before it is given up.
DEADLINE = 240
CHILDREN = 24


class Broken(Exception):
    """Something that must hold does not, and the scenario cannot go on."""


class Scenario:
    """One scenario in namespaces of its own."""

    def __init__(self, name, run, binary, folder):
        self.name, self.run, self.binary = name, run, binary
        self.folder = os.path.join(folder, name)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        self.began = time.monotonic()
        self.deadline = self.began + DEADLINE
        self.why = []
        self.numbers = {"settled_ms": None, "acked": 0, "lost": 0, "duplicated": 0, "reordered": 0,
                        "failed": 0, "unanswered_ms": None}
        self.more = {}
        self.nodes = {}
        self.helpers = []
        self.counts = []
        self.clients = 0
        self.net = Net(run)

    # Progress and outcome.

    def say(self, text):
        print(f"[{time.monotonic() - self.began:6.1f} s] {self.name}: {text}", file=sys.stderr, flush=True)

    def expect(self, holds, why):
        """Notes what does not hold; the scenario goes on."""
        if not holds:
            self.say(f"NOT: {why}")
            self.why.append(why)
        return holds

    def until(self, what, within, holds):
        """Waits until something holds, and gives the milliseconds that it took. `holds` gives
        nothing but what is missing."""
        began = time.monotonic()
        end = min(began + within, self.deadline)
        while True:
            try:
                missing = holds()
            except Unanswered as error:
                missing = str(error)
            took = time.monotonic() - began
            if not missing:
                self.say(f"{what}, after {took:.2f} s")
                return round(took * 1e3)
            if time.monotonic() > end:
                raise Broken(f"not within {within:.0f} s: {what} ({missing})")
            time.sleep(0.05)

    def tried(self, step, *arguments, **options):
        """A step that may not hold without ending the scenario; gives what it gave, or nothing."""
        try:
            return step(*arguments, **options)
        except (Broken, Unanswered) as error:
            self.expect(False, str(error))
            return None

    def pause(self, seconds):
        """Lets the nodes go on as they are."""
        if time.monotonic() + seconds > self.deadline:
            raise Broken("the scenario takes too long")
        time.sleep(seconds)

    def outcome(self):
        line = {"scenario": self.name, **self.numbers, **self.more, "ok": not self.why}
        if self.why:
            line["why"] = "; ".join(self.why)
        return json.dumps(line)

    def show_logs(self):
        for file in sorted(os.listdir(self.folder)):
            if file.endswith(".log"):
                print(f"--- {self.name}/{file}", file=sys.stderr)
                with open(os.path.join(self.folder, file), errors="replace") as log:
                    sys.stderr.writelines(log.readlines()[-12:])
        sys.stderr.flush()

    def end(self):
        for helper in self.helpers:
            helper.kill()
            helper.wait()
        for node in self.nodes.values():
            node.kill()
        clean(self.run)

    # Nodes.

    def host(self, n, **options):
        return self.net.host(f"n{n}", f"10.77.0.{n}", **options)

    @staticmethod
    def seed(n):
        return f"/ip4/10.77.0.{n}/tcp/{PORT}"

    def node(self, n, seeds=None, key=True, log=None, listen=None):
        """Starts a node, or the next life of it; it has the first node as its seed, and listens on
        its own address."""
        name = f"n{n}"
        host = self.net.hosts.get(name) or self.host(n)
        key_file = os.path.join(self.folder, f"{name}.key") if key else None
        log = os.path.join(self.folder, f"{log or name}.log")
        node = Node(self.binary, host, log, listen or host.ip, seeds or [self.seed(1)], key_file)
        self.nodes[name] = node
        return node

    def deployed(self, host, variables):
        """Starts a node, or the next life of it, as a manifest describes it; its files are kept. The
        admin endpoint is for its own machine, so that probes need no token."""
        folder = os.path.join(self.folder, host.name)
        os.makedirs(folder, exist_ok=True)
        own = {"HUB_NODE_NAME": host.name, **variables}
        for name, value in own.items():
            if value.startswith("/"):
                own[name] = os.path.join(folder, os.path.basename(value))
        with open(own["HUB_SECRET_FILE"], "w") as file:
            file.write(SECRET)
        log = os.path.join(self.folder, f"{host.name}.log")
        self.nodes[host.name] = Node(self.binary, host, log, deployed=own)
        return self.nodes[host.name]

    def cluster(self, count=3):
        """Nodes that have found each other."""
        nodes = [self.node(n) for n in range(1, count + 1)]
        for node in nodes:
            node.started()
        self.settled(nodes, 15, "the cluster has formed")
        return nodes

    def status(self, node):
        told = node.ask("status", 5)
        if "error" in told:
            raise Unanswered(f"{node.name}: {told['error']}")
        return told

    def settled(self, nodes, within, what, others=()):
        """Waits until these nodes are settled on exactly themselves and `others`, in these lives."""
        expected = sorted([node.name for node in nodes] + list(others))

        def missing():
            lives = set()
            for node in nodes:
                told = self.status(node)
                names = sorted(member["name"] for member in told["nodes"])
                if names != expected:
                    return f"{node.name} sees {','.join(names)}"
                if not told["settled"]:
                    return f"{node.name} is not settled"
                lives.add(tuple(sorted((m["id"], m["life"]) for m in told["nodes"])))
            return "they see different lives" if len(lives) > 1 else None

        return self.until(what, within, missing)

    def owners(self, node):
        """The children's owners by name, as one node sees them."""
        names = {other.id: other.name for other in self.nodes.values()}
        told = node.ask("owners", 10)["owners"]
        return {child: names.get(owner, owner) for child, owner in told.items()}

    def addresses(self, node, of):
        for member in self.status(node)["nodes"]:
            if member["name"] == of.name:
                return member["addresses"]
        return []

    def events(self, nodes, *names):
        """What nodes have seen of these events."""
        return [f"{node.name}: {told['text']}" for node in nodes for told in node.seen(*names)]

    # Children and load.

    def start(self, node, children, within):
        """Starts children by one node; each must run within the time."""
        try:
            told = node.ask("start", within + 35, children=children)
        except Unanswered as error:
            return self.expect(False, f"start_child: {error}")
        if "error" in told:
            return self.expect(False, f"start_child by {node.name}: {told['error']}")
        first = next(iter(told["failed"].items()), None)
        self.expect(not told["failed"], f"start_child by {node.name} failed for {len(told['failed'])} "
                                        f"of {len(children)} children, {first}")
        return self.expect(told["ms"] <= within * 1e3,
                           f"start_child by {node.name} took {told['ms']} ms, allowed {within * 1e3:.0f}")

    def children(self, node, count=CHILDREN, prefix="child"):
        names = [f"{prefix}-{n}" for n in range(count)]
        self.start(node, names, 10)
        return names

    def answered(self, nodes, children, within, what):
        """Waits until all these children answer all these nodes."""
        def missing():
            for node in nodes:
                failed = node.ask("call", 15, children=children, timeout_ms=3_000)["failed"]
                if failed:
                    return f"{node.name}: {len(failed)} calls failed, {next(iter(failed.items()))}"
            return None

        return self.until(what, within, missing)

    def load(self, nodes, children, clients=1, pause_ms=50):
        """Clients of these nodes begin to write."""
        for node in nodes:
            node.ask("load", children=children, first=self.clients + 1, clients=clients, pause_ms=pause_ms)
            self.clients += clients

    def acked(self, nodes):
        return sum(node.ask("count")["acked"] for node in nodes)

    def take(self, count):
        """Takes the counts of a node whose load has ended."""
        self.counts.append(count)
        self.numbers["acked"] += count["acked"]
        self.numbers["failed"] += count["failed"]
        self.more["may_have_been_handled"] = (
            self.more.get("may_have_been_handled", 0) + count["may_have_been_handled"])
        if count["unanswered_ms"] > (self.numbers["unanswered_ms"] or -1):
            self.numbers["unanswered_ms"] = count["unanswered_ms"]
            self.more["unanswered"] = count["unanswered"]
        for error, times in count["errors"].items():
            self.say(f"{times} times: {error}")

    def check(self, nodes, may_lose=(), may_fail=False, unanswered=UNANSWERED):
        """Ends the load and compares each acknowledged update with the children's states. Only
        children in `may_lose` may have lost any."""
        stops = [(node, node.say("stop")) for node in nodes]
        for node, ident in stops:
            self.take(node.answer(ident, 40))
        checks = [(node, node.say("check")) for node in nodes]
        numbers = self.numbers
        elsewhere = silent = 0
        for node, ident in checks:
            told = node.answer(ident, 90)
            for key in ("lost", "duplicated", "reordered"):
                numbers[key] += told[key]
            silent += told["silent"]
            elsewhere += sum(n for child, n in told["lost_by_child"].items() if child not in may_lose)
        self.say(f"acked {numbers['acked']}, lost {numbers['lost']}, unanswered {numbers['unanswered_ms']} ms")
        self.expect(numbers["acked"] > 0, "nothing was acknowledged")
        self.expect(elsewhere == 0, f"{elsewhere} acknowledged updates are lost")
        self.expect(silent == 0, f"{silent} children did not answer at the end")
        self.expect(numbers["duplicated"] == 0, f"{numbers['duplicated']} updates were handled twice")
        self.expect(numbers["reordered"] == 0, f"{numbers['reordered']} updates were reordered")
        ended = numbers["failed"] + self.more["may_have_been_handled"]
        if not may_fail:
            first = next((error for count in self.counts for error in count["errors"]), None)
            self.expect(ended == 0, f"{ended} updates ended in an error, {first}")
        self.expect(numbers["unanswered_ms"] <= unanswered * 1e3,
                    f"a call was unanswered for {numbers['unanswered_ms']} ms "
                    f"({self.more.get('unanswered')}), allowed {unanswered * 1e3:.0f}")
