"""Network namespaces on one bridge, and what is dropped between them."""
import os
import shutil
import subprocess

PREFIX = "ah"
BRIDGE = "net"


def sh(*command, **options):
    """Runs a command that ends soon; its error has what it said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Host:
    """A namespace with one interface on the bridge."""
    hides_resolver = False

    def __init__(self, net, name, ip, up):
        self.net, self.name, self.ip = net, name, ip
        self.namespace = net.namespace(name)
        # The names must be there when a process is started in it: they are mounted then.
        self.etc = f"/etc/netns/{self.namespace}"
        os.makedirs(self.etc)
        self.resolve_with("127.0.0.1")
        sh("ip", "netns", "add", self.namespace)
        sh("ip", "-n", self.namespace, "link", "set", "lo", "up")
        sh("ip", "-n", net.namespace(BRIDGE), "link", "add", name, "type", "veth",
           "peer", "name", "eth0", "netns", self.namespace)
        sh("ip", "-n", net.namespace(BRIDGE), "link", "set", name, "master", "br0", "up")
        if up:
            self.up()

    def resolve_with(self, server):
        with open(f"{self.etc}/resolv.conf", "w") as file:
            file.write(f"nameserver {server}\noptions timeout:1 attempts:2\n")

    def resolve_by(self, text):
        """Has processes that are started from now on find this `resolv.conf`; nothing: none."""
        self.hides_resolver = text is None
        with open(f"{self.etc}/resolv.conf", "w") as file:
            file.write(text or "")

    def up(self):
        """The interface comes up with its address."""
        sh("ip", "-n", self.namespace, "addr", "add", f"{self.ip}/24", "dev", "eth0")
        sh("ip", "-n", self.namespace, "link", "set", "eth0", "up")

    def down(self):
        """Nothing comes out of it or gets in any more."""
        sh("ip", "-n", self.namespace, "link", "set", "eth0", "down")

    def add_address(self, ip):
        sh("ip", "-n", self.namespace, "addr", "add", f"{ip}/24", "dev", "eth0")

    def change_address(self, ip):
        """Another address takes the place of the one that it has."""
        sh("ip", "-n", self.namespace, "addr", "del", f"{self.ip}/24", "dev", "eth0")
        self.ip = ip
        self.add_address(ip)

    def spawn(self, command, **options):
        """Starts a process in it, whose pid is that of the command itself."""
        if self.hides_resolver:
            # The command has mounts of its own: `/etc` without the file.
            without = f"{self.etc}/etc"
            shutil.rmtree(without, ignore_errors=True)
            shutil.copytree("/etc", without, symlinks=True, ignore=shutil.ignore_patterns("netns", "resolv.conf"))
            command = ["sh", "-c", 'umount -l /etc/resolv.conf; mount --bind "$0" /etc && exec "$@"',
                       without, *command]
        return subprocess.Popen(["ip", "netns", "exec", self.namespace, *command], **options)

    def _drop(self, rules):
        table = ("add table inet cut\n"
                 "add chain inet cut in { type filter hook input priority 0 ; }\n"
                 "add chain inet cut out { type filter hook output priority 0 ; }\n")
        sh("ip", "netns", "exec", self.namespace, "nft", "-f", "-", input=table + rules)

    def drop_from(self, other):
        self._drop(f"add rule inet cut in ip saddr {other.ip} drop\n")

    def drop_to_and_from(self, other):
        self._drop(f"add rule inet cut in ip saddr {other.ip} drop\n"
                   f"add rule inet cut out ip daddr {other.ip} drop\n")

    def heal(self):
        """Nothing is dropped any more."""
        sh("ip", "netns", "exec", self.namespace, "nft", "-f", "-",
           input="add table inet cut\ndelete table inet cut\n")


class Translated(Host):
    """A namespace behind a router on the bridge, which translates its address and forwards one port.

    `ip` is its own address, which nobody else reaches; `router.ip` is what others see."""

    def __init__(self, net, name, router, ip, port):
        self.net, self.name, self.ip, self.router = net, name, ip, router
        self.namespace = net.namespace(name)
        self.etc = f"/etc/netns/{self.namespace}"
        os.makedirs(self.etc)
        self.resolve_with("127.0.0.1")
        inside = ip.rsplit(".", 1)[0] + ".1"
        sh("ip", "netns", "add", self.namespace)
        sh("ip", "-n", self.namespace, "link", "set", "lo", "up")
        sh("ip", "-n", router.namespace, "link", "add", "inside", "type", "veth",
           "peer", "name", "eth0", "netns", self.namespace)
        sh("ip", "-n", router.namespace, "addr", "add", f"{inside}/24", "dev", "inside")
        sh("ip", "-n", router.namespace, "link", "set", "inside", "up")
        self.up()
        sh("ip", "-n", self.namespace, "route", "add", "default", "via", inside)
        sh("ip", "netns", "exec", router.namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        sh("ip", "netns", "exec", router.namespace, "nft", "-f", "-", input=(
            "add table ip nat\n"
            "add chain ip nat out { type nat hook postrouting priority 100 ; }\n"
            "add rule ip nat out oif eth0 masquerade\n"
            "add chain ip nat in { type nat hook prerouting priority -100 ; }\n"
            f"add rule ip nat in iif eth0 tcp dport {port} dnat to {ip}\n"))

    def dial_nobody(self):
        """The router lets nothing new out any more; what comes in by the forwarded port does."""
        sh("ip", "netns", "exec", self.router.namespace, "nft", "-f", "-", input=(
            "add table inet cut\n"
            "add chain inet cut through { type filter hook forward priority 0 ; }\n"
            "add rule inet cut through iif inside ct state new drop\n"))


class Net:
    """A bridge in a namespace of its own, so that the machine's own network is not touched."""

    def __init__(self, run):
        self.prefix = f"{PREFIX}{run}-"
        self.hosts = {}
        sh("ip", "netns", "add", self.namespace(BRIDGE))
        sh("ip", "-n", self.namespace(BRIDGE), "link", "add", "br0", "type", "bridge")
        sh("ip", "-n", self.namespace(BRIDGE), "link", "set", "br0", "up")

    def namespace(self, name):
        return f"{self.prefix}{name}"

    def host(self, name, ip, up=True):
        self.hosts[name] = Host(self, name, ip, up)
        return self.hosts[name]

    def translated(self, name, router, ip, port):
        self.hosts[name] = Translated(self, name, router, ip, port)
        return self.hosts[name]


def clean(run):
    """Removes what a run has made, whoever made it; nothing if there is nothing."""
    prefix = f"{PREFIX}{run}-"
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, timeout=20)
    for line in listed.stdout.splitlines():
        name = line.split()[0]
        if name.startswith(prefix):
            # Processes that are left in a namespace would keep it.
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, timeout=20)
            for pid in pids.stdout.split():
                subprocess.run(["kill", "-9", pid], stderr=subprocess.DEVNULL, timeout=20)
            subprocess.run(["ip", "netns", "del", name], timeout=20)
    if os.path.isdir("/etc/netns"):
        for name in os.listdir("/etc/netns"):
            if name.startswith(prefix):
                shutil.rmtree(os.path.join("/etc/netns", name), ignore_errors=True)
