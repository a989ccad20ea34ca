#!/usr/bin/env python3
"""First answers after sleep and changes of the network; what open connections take. See README.md."""
import argparse
import os
import random
import re
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CLOCKS = HERE.parents[2] / "tests/support/clocks.c"
NAME = "dns.example"
SERVER, US = "10.99.0.1", ("127.0.0.1", 53)
NEAR, FAR = ["10.77.0.2", "10.78.0.2"], ["10.77.0.1", "10.78.0.1"]
# Servers that a connection each is opened to, for what one takes.
MANY = 64
# An idle encrypted connection is closed after 30 s; this is how long all of them are surely still open.
OPEN_S = 15
# Changes of the network come further apart than this; closer ones are taken together.
QUIET_S = 5
WAYS = {"dot": "tls://{at}#" + NAME, "doh": "https://{at}/dns-query#" + NAME}


def run(*command, **more):
    return subprocess.run([str(word) for word in command], check=True, **more)


def ip(*words):
    run("ip", *words)


class Far:
    """A network beyond two cables, with unbound in it."""

    def __init__(self, folder):
        self.holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up; echo; exec cat"],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.holder.stdout.readline()
        for at in (0, 1):
            ip("link", "add", f"near{at}", "type", "veth", "peer", "name", f"far{at}", "netns", self.holder.pid)
            self.ip("address", "add", f"{FAR[at]}/24", "dev", f"far{at}")
            self.ip("link", "set", f"far{at}", "up")
            ip("link", "set", f"near{at}", "up")
            ip("address", "add", f"{NEAR[at]}/24", "dev", f"near{at}")
        for n in range(1, MANY + 1):
            self.ip("address", "add", f"10.99.0.{n}/32", "dev", "lo")
        for chain, hook in (("in", "input"), ("out", "output")):
            self.nft("add", "table", "ip", "f")
            self.nft("add", "chain", "ip", "f", chain, "{ type filter hook " + hook + " priority 0; }")
        self.route(0)
        interfaces = f"  interface: {SERVER}@53\n" + "".join(f"  interface: 10.99.0.{n}@853\n  interface: 10.99.0.{n}@443\n" for n in range(1, MANY + 1))
        config = (f"server:\n{interfaces}  tls-port: 853\n  https-port: 443\n  tls-service-pem: {folder}/server.pem\n"
                  f"  tls-service-key: {folder}/server.key\n  do-daemonize: no\n  chroot: \"\"\n  username: \"\"\n  pidfile: \"\"\n"
                  f"  directory: {folder}\n  use-syslog: no\n  logfile: \"\"\n  num-threads: 1\n  incoming-num-tcp: 50\n"
                  "  access-control: 0.0.0.0/0 allow\n  local-zone: \"example.\" redirect\n"
                  "  local-data: \"example. 300 IN A 192.0.2.7\"\n")
        (folder / "unbound.conf").write_text(config)
        log = open(folder / "unbound.log", "w")
        self.unbound = subprocess.Popen(self.enter("unbound", "-d", "-c", folder / "unbound.conf"), stderr=log)
        def listens():
            if self.unbound.poll() is not None:
                sys.exit((folder / "unbound.log").read_text())
            return all(f":{port:04X} 00000000:0000 0A" in self.sockets() for port in (853, 443))

        wait("unbound listens", listens)

    def enter(self, *command):
        return ["nsenter", "--target", str(self.holder.pid), "--net", "--",
                *map(str, command)]

    def ip(self, *words):
        run(*self.enter("ip", *words))

    def nft(self, *words):
        run(*self.enter("nft", *words))

    def sockets(self):
        return Path(f"/proc/{self.holder.pid}/net/tcp").read_text()

    def flush(self):
        self.nft("flush", "chain", "ip", "f", "in")
        self.nft("flush", "chain", "ip", "f", "out")

    def drop_flows(self, ports):
        """A middlebox that has forgotten flows: both directions, without a word."""
        for port in ports:
            self.nft("add", "rule", "ip", "f", "in", "tcp", "sport", str(port), "drop")
            self.nft("add", "rule", "ip", "f", "out", "tcp", "dport", str(port), "drop")

    def drop_ports(self):
        """A firewall that lets nothing encrypted out, without a word."""
        self.nft("add", "rule", "ip", "f", "in", "tcp", "dport", "{ 443, 853 }", "drop")

    def drop_cable(self, cable):
        self.nft("add", "rule", "ip", "f", "in", "iif", f"far{cable}", "drop")

    def route(self, cable):
        ip("route", "replace", "10.99.0.0/24", "via", FAR[cable])

    def end(self):
        for process in (self.unbound, self.holder):
            process.terminate()
            process.wait()


class Daemon:
    """truename with a configuration, by clocks of its own."""

    def __init__(self, binary, folder, config):
        (folder / "truename.toml").write_text(config + "\n[hosts]\nfiles = []\n[log]\nformat = \"json\"\n")
        self.offsets = folder / "offsets"
        self.offsets.write_bytes(bytes(24))
        environment = {"PATH": os.environ["PATH"], "LD_PRELOAD": str(folder / "clocks.so"), "CLOCK_OFFSETS": str(self.offsets),
                       "SSL_CERT_FILE": str(folder / "ca.pem"), "STATE_DIRECTORY": str(folder)}
        self.log = folder / "truename.log"
        self.process = subprocess.Popen([binary, "run", "--config", folder / "truename.toml", "--listen", "127.0.0.1:53"],
                                        env=environment, stderr=open(self.log, "w"))
        wait("truename is ready", lambda: '"ready"' in self.log.read_text())

    def sleep(self, hours):
        """The machine sleeps: CLOCK_BOOTTIME and the wall clock go on, CLOCK_MONOTONIC does not."""
        wall, monotonic, boot = struct.unpack("=qqq", self.offsets.read_bytes())
        more = hours * 3_600_000
        with open(self.offsets, "r+b") as file:
            file.write(struct.pack("=qqq", wall + more, monotonic, boot + more))

    def memory_kib(self):
        """Resident memory that is its own."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+)", text)[1])

    def wake_ups(self):
        """How often each thread has gone to sleep of its own accord: each time, something had woken it."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        count = lambda text: int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.M)[1])
        return {task.name: count((task / "status").read_text()) for task in tasks}

    def ports(self):
        """The local ports of its open connections."""
        lines = [line.split() for line in Path(f"/proc/{self.process.pid}/net/tcp").read_text().splitlines()[1:]]
        far = [f"{n:02X}00630A" for n in range(1, MANY + 1)]
        return [int(line[1].split(":")[1], 16) for line in lines if line[3] == "01" and line[2].split(":")[0] in far]

    def went_over_to(self, transport):
        """Whether it has said last that the server is asked over this transport."""
        said = [line for line in self.log.read_text().splitlines() if "an upstream is asked over another transport" in line]
        return bool(said) and f'"transport":"{transport}"' in said[-1]

    def end(self):
        self.process.terminate()
        self.process.wait()


def wait(what, holds, seconds=20):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            sys.exit(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def ask(name):
    """Asks truename; returns the milliseconds to a good answer, or None."""
    ident = random.randrange(65536)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = struct.pack("!6H", ident, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(8)
        sock.connect(US)
        start = time.perf_counter()
        sock.send(query)
        try:
            reply = sock.recv(4096)
        except TimeoutError:
            return None
        took = (time.perf_counter() - start) * 1000
    is_good = reply[:2] == query[:2] and reply[3] & 15 == 0 and reply[7] > 0
    return took if is_good else None


def fresh_name(below="example"):
    return f"n{random.randrange(10**9)}.{below}"


def groups(way, count):
    """Groups of a server each, with a route each."""
    text = ""
    for n in range(1, count + 1):
        server = WAYS[way].format(at=f"10.99.0.{n}")
        text += f"[upstream.g{n}]\nservers = [\"{server}\"]\n[[route]]\nnames = [\"g{n}.example\"]\nupstream = \"g{n}\"\n"
    return text + "[default]\nupstream = \"g1\"\n"


def certificates(folder):
    """An authority and a server's certificate of it."""
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650", "-subj",
        "/CN=test authority", "-keyout", folder / "ca.key", "-out", folder / "ca.pem", stderr=subprocess.DEVNULL)
    run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={NAME}", "-keyout",
        folder / "server.key", "-out", folder / "server.csr", stderr=subprocess.DEVNULL)
    (folder / "names").write_text(f"subjectAltName=DNS:{NAME}\nbasicConstraints=CA:FALSE\n")
    run("openssl", "x509", "-req", "-in", folder / "server.csr", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-days",
        "3650", "-extfile", folder / "names", "-out", folder / "server.pem", stderr=subprocess.DEVNULL)


def first_answers(arguments, folder, far):
    """Each event, then the first question after it."""
    print(f"{'first answer after':34} {'way':4} {'median':>8} {'worst':>8}  failed")
    for way in WAYS:
        far.flush()
        far.route(0)
        daemon = Daemon(arguments.binary, folder, groups(way, 1))
        cable = 0

        def resume():
            far.drop_flows(daemon.ports())
            daemon.sleep(8)

        def other_route():
            nonlocal cable
            # The cable is cut, and the other one leads past the state that the connection has on the first.
            far.flush()
            far.drop_cable(cable)
            far.drop_flows(daemon.ports())
            cable = 1 - cable
            far.route(cable)

        def other_address():
            # With the address, the routes that need it go; the connection keeps an address that is nobody's.
            index = other_address.count = getattr(other_address, "count", 10) + 1
            before = NEAR[cable] if index == 11 else f"{NEAR[cable][:-1]}{index - 1}"
            ip("address", "del", f"{before}/24", "dev", f"near{cable}")
            ip("address", "add", f"{NEAR[cable][:-1]}{index}/24", "dev", f"near{cable}")
            far.route(cable)

        def dropped():
            far.drop_flows(daemon.ports())

        for what, event in (("sleep, the old connection dead", resume), ("another route, the old one dead", other_route),
                            ("another address", other_address), ("the flow's state dropped, no event", dropped)):
            times = []
            for _ in range(arguments.rounds):
                wait("a connection that answers", lambda: ask(fresh_name()) is not None and daemon.ports())
                if event in (other_route, other_address):
                    time.sleep(QUIET_S)
                event()
                times.append(ask(fresh_name()))
                far.flush()
                if what.startswith("another route"):
                    far.drop_cable(1 - cable)
            good = [took for took in times if took is not None]
            print(f"{what:34} {way:4} {statistics.median(good):6.0f}ms {max(good):6.0f}ms  {times.count(None)} of {len(times)}")
            far.flush()
        daemon.end()
        # The next daemon finds the addresses as they were.
        for at in (0, 1):
            ip("address", "flush", "dev", f"near{at}")
            ip("address", "add", f"{NEAR[at]}/24", "dev", f"near{at}")
        far.route(0)


def ports(arguments, folder, far):
    """A ladder behind a firewall that drops what goes to 443 and 853, for a while and then no longer."""
    server = f'{{ address = "{SERVER}#{NAME}", rungs = ["https", "tls", "tcp"] }}'
    config = f'[upstream.g1]\nservers = [{server}]\n[default]\nupstream = "g1"\n'
    print(f"{'ports 443 and 853 dropped':34} {'median':>10} {'worst':>10}  failed")
    seen = {"first answer": [], "later ones, over TCP": [], "back on the top rung": [], "then, over DoH": []}
    for _ in range(arguments.rounds):
        far.flush()
        far.drop_ports()
        daemon = Daemon(arguments.binary, folder, config)
        seen["first answer"].append(ask(fresh_name()))
        for _ in range(arguments.rounds):
            seen["later ones, over TCP"].append(ask(fresh_name()))
        far.flush()
        start = time.monotonic()
        while not daemon.went_over_to("https"):
            if time.monotonic() - start > 90:
                sys.exit("not within 90 s: the top rung is in use again")
            ask(fresh_name())
            time.sleep(0.2)
        seen["back on the top rung"].append((time.monotonic() - start) * 1000)
        for _ in range(arguments.rounds):
            seen["then, over DoH"].append(ask(fresh_name()))
        daemon.end()
    for what, times in seen.items():
        good = [took for took in times if took is not None]
        print(f"{what:34} {statistics.median(good):8.1f}ms {max(good):8.1f}ms  {times.count(None)} of {len(times)}")
    far.flush()


def idle(arguments, folder, far):
    """What open connections take: memory each, and wake-ups while nobody asks."""
    for way in WAYS:
        daemon = Daemon(arguments.binary, folder, groups(way, MANY))
        for _ in range(20):
            ask(fresh_name("g1.example"))
        before = daemon.memory_kib()
        failed = sum(ask(fresh_name(f"g{n}.example")) is None for n in range(2, MANY + 1))
        count, after = len(daemon.ports()), daemon.memory_kib()
        print(f"{way}: {count} connections, {failed} failed: {(after - before) / (count - 1):.0f} KiB each beside the first, "
              f"{after} KiB in all")
        daemon.end()
        daemon = Daemon(arguments.binary, folder, groups(way, 4))
        failed = sum(ask(fresh_name(f"g{n}.example")) is None for n in range(1, 5))
        # Threads that have read certificates end after 10 s.
        time.sleep(11)
        start, before = time.monotonic(), daemon.wake_ups()
        woken = lambda: sum(count - before.get(thread, 0) for thread, count in daemon.wake_ups().items())
        time.sleep(OPEN_S)
        open_still, while_open = len(daemon.ports()), woken()
        time.sleep(60 - (time.monotonic() - start))
        print(f"{way}: {open_still} of 4 connections open ({failed} failed): {while_open} wake-ups in {OPEN_S} s without questions, "
              f"{woken()} in the minute in which all are closed")
        daemon.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", type=Path, help="truename")
    parser.add_argument("--rounds", type=int, default=10, help="events of each kind")
    parser.add_argument("--only", choices=["first", "ports", "idle"], help="one part")
    arguments = parser.parse_args()
    if "CONNECTIONS_INSIDE" not in os.environ:
        # A machine of our own: namespaces, as whatever user this is.
        os.execvpe("unshare", ["unshare", "--user", "--map-root-user", "--mount", "--net", sys.executable, *sys.argv],
                   {**os.environ, "CONNECTIONS_INSIDE": "1"})
    arguments.binary = arguments.binary.resolve()
    ip("link", "set", "lo", "up")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run("cc", "-shared", "-fPIC", "-O1", "-o", folder / "clocks.so", CLOCKS)
        certificates(folder)
        far = Far(folder)
        try:
            parts = {"first": first_answers, "ports": ports, "idle": idle}
            for name, part in parts.items():
                if arguments.only in (None, name):
                    part(arguments, folder, far)
        finally:
            far.end()


if __name__ == "__main__":
    main()
