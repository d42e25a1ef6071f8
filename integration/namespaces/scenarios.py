"""The scenarios, each a function of a `Scenario`; its first line says what is wanted."""
import json
import os
import re
import subprocess
import sys
import time

from node import PORT, Unanswered, Watch
from scenario import HEARTBEAT, SLACK, UNANSWERED, WINDOW, Broken

HERE = os.path.dirname(os.path.abspath(__file__))
ANY = "0.0.0.0"
# When a crashing node is killed, as parts of the time that it takes to be in.
MOMENTS = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.9, 1.0, 1.2)


def number(name, default):
    return int(os.environ.get(name, default))


def wildcard(s):
    """Three nodes that listen on 0.0.0.0 with one seed form at every start; none tells loopback."""
    starts, worst, failed = number("STARTS", 3), 0, []
    s.deadline += starts * 5
    for n in range(1, starts + 1):
        nodes = []
        for at in (1, 2, 3):
            nodes.append(s.node(at, key=False, listen=ANY, log=f"start-{n}-n{at}"))
            s.pause((0, 0.05, 0.3)[n % 3])
        try:
            for node in nodes:
                node.started()
            worst = max(worst, s.settled(nodes, 15, f"start {n} of {starts} has formed"))
            for node in nodes:
                others = [other for other in nodes if other is not node]
                s.until(f"{node.name}'s address is known to others", 5,
                        all_know(s, others, node, node.host.ip))
        except (Broken, Unanswered) as error:
            failed.append(f"start {n}: {error}")
            s.say(failed[-1])
        for node in nodes:
            node.kill()
            if not failed:
                os.unlink(node.log)
    s.numbers["settled_ms"] = worst
    s.more["formed"] = f"{starts - len(failed)} of {starts}"
    s.expect(not failed, f"{len(failed)} of {starts} starts failed, {failed[:1]}")


def name_server(s, host, addresses):
    """Serves one list of addresses in a namespace; the function that is given back changes it."""
    path = os.path.join(s.folder, f"{host.name}.names")

    def change(addresses):
        with open(path + ".new", "w") as file:
            json.dump(addresses, file)
        os.replace(path + ".new", path)

    change(addresses)
    server = host.spawn([sys.executable, os.path.join(HERE, "names.py"), path],
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    s.helpers.append(server)
    if server.stdout.readline().strip() != "ready":
        raise Broken("the name server did not start")
    return change


def headless(s):
    """A name with the addresses of all, the own one first: one cluster; later addresses are found."""
    seed = [f"/dns4/hub.cluster.test/tcp/{PORT}"]
    hosts = [s.host(n) for n in (1, 2, 3, 4)]
    ips = [host.ip for host in hosts]
    for host in hosts[:3]:
        name_server(s, host, [host.ip] + [ip for ip in ips[:3] if ip != host.ip])
    nodes = [s.node(n, seeds=seed, listen=ANY) for n in (1, 2, 3)]
    for node in nodes:
        node.started()
    s.numbers["settled_ms"] = s.settled(nodes, 15, "all three are one cluster")
    # As a name of Kubernetes at first: there is no other yet.
    change = name_server(s, hosts[3], [hosts[3].ip])
    nodes.append(s.node(4, seeds=seed, listen=ANY).started())
    s.pause(3)
    change([hosts[3].ip] + ips[:3])
    s.more["later_name_ms"] = s.settled(nodes, 20, "the fourth has found what the name says later")


# What `/etc/resolv.conf` may be; nothing: there is none.
RESOLVERS = (None, "", "nameserver\nno such line \x01\n")


def resolver(s):
    """Without `resolv.conf`, or with one that says nothing, nodes go by addresses; a name is told with the file."""
    for n, text in enumerate(RESOLVERS):
        hosts = [s.host(3 * n + m) for m in (1, 2, 3)]
        for host in hosts:
            host.resolve_by(text)
        seed = [s.seed(3 * n + 1)]
        nodes = [s.node(3 * n + m, seeds=seed, listen=ANY) for m in (1, 2)]
        for node in nodes:
            node.started()
        took = s.settled(nodes, 15, f"two nodes have formed with resolv.conf {text!r}")
        s.numbers["settled_ms"] = max(took, s.numbers["settled_ms"] or 0)
        named = s.node(3 * n + 3, seeds=[f"/dns4/hub.cluster.test/tcp/{PORT}"], listen=ANY).started()
        s.tried(s.until, f"{named.name} says what it cannot resolve and by which file", 15,
                lambda: None if any("/etc/resolv.conf" in told["text"] and "hub.cluster.test" in told["text"]
                                    for told in named.seen("WaitingForSeeds")) else named.seen("WaitingForSeeds"))


def late(s):
    """An interface that comes up later and an address that changes are followed, and told to others."""
    late_host = s.host(3, up=False)
    nodes = [s.node(1, listen=ANY).started(), s.node(2, listen=ANY).started()]
    s.settled(nodes, 15, "two nodes have formed")
    third = s.node(3, listen=ANY)
    s.pause(2)
    late_host.up()
    third.started()
    nodes.append(third)
    s.numbers["settled_ms"] = s.settled(nodes, 15, "the late one is in")
    children = s.children(nodes[0])
    s.answered(nodes, children, 15, "all children answer all nodes")
    known = all_know(s, nodes[:2], third, late_host.ip)
    s.tried(s.until, "the late address is known to others", 5, known)
    fourth = s.node(4, seeds=[s.seed(3)], listen=ANY).started()
    nodes.append(fourth)
    s.settled(nodes, 15, "a fourth has joined by the late one")

    s.load(nodes[:2], children)
    s.pause(1)
    old = late_host.ip
    late_host.change_address("10.77.0.33")
    s.say(f"{old} is now {late_host.ip}")
    s.tried(s.until, "the new address is known to others", 20, all_know(s, nodes[:2], third, late_host.ip, old))
    s.more["changed_ms"] = s.settled(nodes, 20, "all are in with the new address")
    s.answered(nodes, children, 15, "all children answer all nodes")
    failed_over = s.events(nodes, "Recovered") + s.events(nodes, "NodeDown")
    s.expect(not failed_over, f"a node whose address changed was given up: {failed_over[:2]}")
    fourth.kill()
    fourth = s.node(4, seeds=[s.seed(33)], listen=ANY).started()
    nodes[3] = fourth
    s.settled(nodes, 15, "the fourth came back by the new address")
    for count in [node.ask("stop", 40) for node in nodes[:2]]:
        s.take(count)


def all_know(s, nodes, of, ip, old=None):
    def missing():
        for node in nodes:
            told = s.addresses(node, of)
            if not any(f"/{ip}/" in address for address in told):
                return f"{node.name} has {told} of {of.name}"
            if old and any(f"/{old}/" in address for address in told):
                return f"{node.name} still has {told} of {of.name}"
            if any("/127." in address for address in told):
                return f"{node.name} was told loopback, {told}"
        return None
    return missing


def translated(s):
    """A node behind a translator with a forwarded port is told of by the address that others see."""
    router = s.net.host("router", "10.77.0.3")
    host = s.net.translated("n3", router, "10.78.0.2", PORT)
    nodes = one, two = s.node(1).started(), s.node(2).started()
    s.settled(nodes, 15, "two nodes have formed")
    third = s.node(3, listen=ANY).started()
    nodes += (third,)
    s.numbers["settled_ms"] = s.settled(nodes, 15, "the one behind the translator is in")
    s.tried(s.until, "others know the address that they see", 10, all_know(s, nodes[:2], third, router.ip))
    told = s.addresses(one, third)
    s.expect(told[:1] == [f"/ip4/{host.ip}/tcp/{PORT}"], f"its own address is not the first, {told}")
    s.expect(told[-1:] == [s.seed(3)], f"the address that was seen is not the last, {told}")
    # From here on it can only be dialled: by a newcomer, which hears of it from others.
    host.dial_nobody()
    fourth = s.node(4).started()
    nodes += (fourth,)
    s.settled(nodes, 15, "a fourth is in")

    def unlinked():
        for node, other in ((fourth, third), (third, fourth)):
            linked = {member["name"]: member["linked"] for member in s.status(node)["nodes"]}
            if not linked.get(other.name):
                return f"{node.name} has no link to {other.name}"
        return None
    s.more["dialled_ms"] = s.tried(s.until, "the fourth has dialled it", 15, unlinked)
    children = s.children(one)
    s.answered(nodes, children, 15, "all children answer all nodes")


def partial(s):
    """A node that reaches one of three only holds nobody up: starts, failover and a leave go on."""
    nodes = one, two, three = s.cluster()
    children = s.children(one)
    fourth = s.host(4)
    fourth.drop_to_and_from(two.host)
    fourth.drop_to_and_from(three.host)
    s.load([one, two], children)
    watch = Watch(nodes)
    watch.start()
    s.node(4).started()
    for node in nodes:
        s.start(node, [f"by-{node.name}-{n}" for n in range(8)], 5)
        children += [f"by-{node.name}-{n}" for n in range(8)]
        # At once, and when the joiner has been there for longer than the window.
        s.pause((WINDOW + HEARTBEAT) / 2)
    s.tried(s.answered, nodes, children, 10, "all children answer the three")
    watch.stop()
    s.more["unsettled_ms"] = round(watch.longest * 1e3)
    s.expect(watch.longest <= WINDOW + SLACK,
             f"a node was not settled for {watch.longest:.1f} s while the fourth tried to join")
    s.more["joined"] = any(member["name"] == "n4" for member in s.status(one)["nodes"])

    victims = owned_by(s, one, "n3")
    three.kill()
    s.say(f"n3 is killed with {len(victims)} children")
    s.tried(s.answered, [one, two], children, 15, "the children of the killed node run again")
    three = s.node(3).started()
    s.numbers["settled_ms"] = s.tried(s.until, "n3 is back", 15, lambda: is_in(s, [one, two, three], "n3"))

    victims |= owned_by(s, one, "n3")
    leave(s, two, [one, three], victims)


def owned_by(s, node, owner):
    return {child for child, name in s.owners(node).items() if name == owner}


def is_in(s, nodes, name):
    """Nothing if these nodes are settled with this one among them."""
    for node in nodes:
        told = s.status(node)
        if not told["settled"]:
            return f"{node.name} is not settled"
        if not any(member["name"] == name for member in told["nodes"]):
            return f"{node.name} does not see {name}"
    return None


def leave(s, leaver, others, may_lose=(), within=20):
    """A node with load leaves; what it wrote is checked by the first of the others."""
    s.say(f"{leaver.name} leaves")
    try:
        told = leaver.ask("leave", 75)
    except Unanswered as error:
        s.expect(False, f"leave: {error}")
        told = None
    if told:
        s.expect(told["left"], f"{leaver.name} did not leave: {told['failed']}")
        s.more["leave_ms"] = told["ms"]
        s.expect(told["ms"] <= within * 1e3, f"the leave took {told['ms']} ms, allowed {within * 1e3:.0f}")
        s.take(told["count"])
        others[0].ask("adopt", 20, ledger=told["ledger"])
        if told["left"]:
            s.expect(leaver.end_of_process(15) == 0, "the process of the node that left did not end well")
            children = s.owners(others[0])
            there = [child for child, owner in children.items() if owner == leaver.name]
            s.expect(not there, f"{len(there)} children are still at {leaver.name}")
    s.check(others, may_lose, may_fail=bool(may_lose))


def crash_loop(s):
    """A node that is killed some milliseconds after each start holds the others up for a window at most."""
    nodes = one, two, three = s.cluster()
    children = s.children(one, 12)
    s.load(nodes, children, pause_ms=100)
    watch = Watch(nodes)
    watch.start()
    began = time.monotonic()
    lives, late_lives, worst = number("LIVES", 20), 0, 0
    s.deadline += lives * 2 * WINDOW
    whole_join = s.until("a first life is in", 15, first_life(s, nodes)) / 1e3
    s.nodes["n4"].kill()
    s.settled(nodes, 3 * WINDOW, "it is out")
    for life in range(lives):
        crashed = s.node(4)
        s.pause(whole_join * MOMENTS[life % len(MOMENTS)])
        crashed.kill()
        s.start(two, [f"life-{life}"], WINDOW + SLACK)
        try:
            worst = max(worst, s.until(f"life {life + 1} of {lives}: the others are settled",
                                       WINDOW + SLACK, lambda: all_settled(s, nodes)))
        except Broken as error:
            late_lives += 1
            s.say(str(error))
    whole = time.monotonic() - began
    watch.stop()
    s.numbers["settled_ms"] = worst
    s.more["unsettled_share"] = round(watch.sum / whole, 2)
    s.expect(late_lives == 0, f"after {late_lives} of {lives} lives the others were not settled within a window")
    s.expect(watch.longest <= WINDOW + SLACK, f"a node was not settled for {watch.longest:.1f} s")
    s.tried(s.settled, nodes, 3 * WINDOW, "the others are settled without it")
    downs = s.events(nodes, "Rejoined")
    s.expect(not downs, f"a node that lived was declared down: {downs[:2]}")
    went = went_to(nodes, {member for node in nodes for member in node.named("n4")})
    s.more["went"] = len(went)
    s.check(nodes, may_lose=went, may_fail=bool(went))


def first_life(s, nodes):
    node = s.node(4)
    return lambda: is_in(s, nodes + [node.started()], "n4")


def went_to(nodes, ids):
    """Children that may have run at these nodes: a move there began and is not known to have failed before."""
    open_moves = {}
    for node in nodes:
        for told in node.seen("HandoverStarted", "HandoverFailed"):
            if told["node"] in ids and not told["may_have_run"]:
                step = 1 if told["event"] == "HandoverStarted" else -1
                open_moves[told["child"]] = open_moves.get(told["child"], 0) + step
    return {child for child, count in open_moves.items() if count > 0}


def all_settled(s, nodes):
    """Nothing if all are settled on the same lives."""
    lives = set()
    for node in nodes:
        told = s.status(node)
        if not told["settled"]:
            return f"{node.name} is not settled"
        lives.add(tuple(sorted((member["id"], member["life"]) for member in told["nodes"])))
    return "they see different lives" if len(lives) > 1 else None


def cut_link(s, one_way):
    nodes = one, two, three = s.cluster()
    children = s.children(one)
    before = s.owners(one)
    s.load(nodes, children)
    s.pause(3)
    if one_way:
        two.host.drop_from(one.host)
    else:
        one.host.drop_to_and_from(two.host)
    s.say("n1 -> n2 is cut" if one_way else "n1 <-> n2 is cut")
    s.pause(UNANSWERED)
    for node in nodes:
        s.start(node, [f"by-{node.name}-{n}" for n in range(4)], 5)
    s.tried(s.answered, nodes, children + [f"by-n{n}-{m}" for n in (1, 2, 3) for m in range(4)], 5,
                   "all children answer all nodes while the link is cut")
    s.pause(number("CUT", 6))
    (two if one_way else one).host.heal()
    s.say("the link is healed")
    s.numbers["settled_ms"] = s.tried(s.settled, nodes, 15, "all are settled after the cut")
    s.pause(3)
    downs = s.events(nodes, "NodeDown", "Rejoined", "NodeLeft")
    s.expect(not downs, f"there was a failover: {downs[:3]}")
    recovered = s.events(nodes, "Recovered", "DivergenceYielded", "DivergenceMerged", "StateParked")
    s.expect(not recovered, f"children were started again: {len(recovered)}, {recovered[:2]}")
    after = s.owners(one)
    moved = [child for child in children if after.get(child) != before.get(child)]
    s.expect(not moved, f"{len(moved)} children have another owner, {moved[:3]}")
    s.check(nodes)


def broken_link(s):
    """A link of three that is dropped both ways: no failover, calls go by the third node."""
    cut_link(s, one_way=False)


def one_way(s):
    """A link of three that is dropped in one direction: no failover, calls go by the third node."""
    cut_link(s, one_way=True)


def comes_back(s, one, two):
    """Starts the third node again; it must be in again in time."""
    three = s.node(3, seeds=[s.seed(1), s.seed(2)]).started()
    return s.settled([one, two, three], 10, "the killed node is in again")


def flood(s):
    """Silent connections of strangers do not keep a killed node from coming back."""
    nodes = one, two, three = s.cluster()
    children = s.children(one)
    s.load([one, two], children)
    stranger = s.host(100)
    sources = [stranger.ip]
    for n in range(101, 110):
        stranger.add_address(f"10.77.0.{n}")
        sources.append(f"10.77.0.{n}")
    targets = ",".join(f"{node.host.ip}:{PORT}" for node in nodes)
    flooding = stranger.spawn(
        [sys.executable, os.path.join(HERE, "flood.py"), "60", "300", ",".join(sources), targets],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    s.helpers.append(flooding)
    s.pause(3)
    s.expect(flooding.poll() is None, "the flood has ended")
    victims, took = set(), []
    # With the address that others know, and, as in a cloud, with one where nobody can dial it.
    for ip in (three.host.ip, "10.77.0.33", "10.77.0.33", "10.77.0.34"):
        victims |= owned_by(s, one, "n3")
        s.nodes["n3"].kill()
        if ip != three.host.ip:
            three.host.change_address(ip)
        s.say(f"n3 is killed and started again at {ip}")
        took.append(s.tried(comes_back, s, one, two))
    s.numbers["settled_ms"] = None if None in took else max(took)
    flooding.stdin.close()
    s.more["flood"] = (flooding.stdout.read().strip().splitlines() or [""])[-1]
    s.expect("opened" in s.more["flood"], "the flood did not run")
    s.check([one, two], may_lose=victims, may_fail=True)


def leave_broken(s):
    """A node leaves while its link to one of two others is dropped: all its children go elsewhere."""
    nodes = one, two, three = s.cluster()
    children = s.children(one)
    s.load(nodes, children)
    s.pause(2)
    one.host.drop_to_and_from(two.host)
    s.say("n1 <-> n2 is cut")
    s.pause(WINDOW + 2 * HEARTBEAT)
    leave(s, one, [two, three])
    s.numbers["settled_ms"] = s.settled([two, three], 10, "the others are settled without it")


def end_one(s, silently):
    nodes = one, two, three = s.cluster()
    children = s.children(one)
    s.load(nodes, children)
    s.pause(3)
    victims = owned_by(s, one, "n2")
    s.expect(victims, "the victim has no children")
    if silently:
        two.host.down()
    two.kill()
    s.say(f"n2 is gone with {len(victims)} children")
    s.numbers["settled_ms"] = s.settled([one, three], 10, "the others are settled without it")
    s.more["again_ms"] = s.answered([one, three], children, 10, "all children answer again")
    s.pause(2)
    s.more["gone"] = len(victims)
    s.check([one, three], may_lose=victims, may_fail=True)


def kill(s):
    """A node is killed under load: its children run again, and only they may have lost anything."""
    end_one(s, silently=False)


def power_off(s):
    """The same without a word: the machine is gone, and nothing closes its connections."""
    end_one(s, silently=True)


MANIFEST = os.path.join(HERE, "../../examples/deploy/kubernetes.yaml")
# Asks a probe in the namespace of a node.
PROBE = """
import http.client, sys
asked = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=3)
asked.request("GET", sys.argv[2])
answer = asked.getresponse()
print(answer.status, answer.read().decode())
"""


def manifest():
    """The variables, the probes by their kinds, and the seconds for an end, of the manifest."""
    with open(MANIFEST) as file:
        text = file.read()
    variables = dict(re.findall(r'^  ([A-Z_]+): "?([^"\n]*)"?$', text, re.M))
    probes = dict(re.findall(r"(\w+)Probe:\n +httpGet: { path: (\S+),", text))
    return variables, probes, int(re.search(r"terminationGracePeriodSeconds: (\d+)", text)[1])


def probed(node, port, path):
    """Nothing if a probe says that all is well."""
    asked = node.host.spawn([sys.executable, "-c", PROBE, str(port), path],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    answer = asked.communicate(timeout=10)[0].strip()
    return None if answer.startswith("200 ") else f"{node.name} answers {path} with {answer or 'nothing'}"


def rolling_restart(s):
    """Each of three nodes of examples/deploy is ended by SIGTERM and comes back elsewhere: nothing is lost."""
    variables, probes, grace = manifest()
    admin = int(variables["SERVICE_ADMIN"].rsplit(":", 1)[1])
    hosts = [s.host(n) for n in (1, 2, 3)]

    def say_addresses(*others):
        """What the headless service says in each pod."""
        for change, host in zip(names, hosts):
            change([host.ip] + [other.ip for other in hosts if other not in (host, *others)])

    names = [name_server(s, host, []) for host in hosts]
    say_addresses()
    nodes = [s.deployed(host, variables) for host in hosts]
    for node in nodes:
        node.started()
    s.numbers["settled_ms"] = s.settled(nodes, 15, "all three are one cluster")
    for node in nodes:
        for kind, path in probes.items():
            s.until(f"{node.name}: {kind}", 15, lambda: probed(node, admin, path))
    ids = [node.id for node in nodes]
    children = s.children(nodes[0])
    s.load(nodes, children)
    s.pause(2)
    lives, ends, returns, moved = list(nodes), [], [], 0
    for at, host in enumerate(hosts):
        leaver, others = nodes[at], [node for node in nodes if node is not nodes[at]]
        began = time.monotonic()
        leaver.terminate()
        status, told = leaver.ended(grace)
        ends.append(round((time.monotonic() - began) * 1e3))
        if not s.expect(status == 0 and told, f"{leaver.name} did not end well: {status}, {told}"):
            raise Broken(f"nothing is known of what {leaver.name} wrote")
        s.say(f"{leaver.name} has ended after {ends[-1]} ms: {told['ended']}")
        s.expect(not (told["lost"] or told["written"] or told["forced"]), f"{leaver.name}: {told['ended']}")
        moved += told["handed_over"]
        s.take(told["count"])
        others[0].ask("adopt", 20, ledger=told["ledger"])
        # The pod's address goes, and the next one has another.
        say_addresses(host)
        host.change_address(f"10.77.0.{21 + at}")
        say_addresses()
        began = time.monotonic()
        nodes[at] = s.deployed(host, variables).started()
        s.expect(nodes[at].id == ids[at], f"{host.name} came back as another node")
        s.until(f"{host.name} is ready again", 30, lambda: probed(nodes[at], admin, probes["readiness"]))
        returns.append(round((time.monotonic() - began) * 1e3))
        lives.append(nodes[at])
        # The next one ends at once: being ready has to be enough.
        s.load([nodes[at]], children)
    s.settled(nodes, 15, "all three are one cluster again")
    s.more.update(end_ms=max(ends), ready_ms=max(returns), handed_over=moved)
    s.expect(moved > 0, "no child was handed over")
    s.pause(2)
    again = s.events(lives, "Recovered", "NodeDown", "Rejoined")
    s.expect(not again, f"an end was taken for a failure: {again[:2]}")
    s.check(nodes)


ALL = (wildcard, headless, resolver, late, translated, partial, crash_loop, broken_link, one_way, flood, leave_broken, kill,
       power_off, rolling_restart)
