"""A night on several machines: network namespaces with nothing but sockets between them.

    python benchmarks/machines.py --data DATA --work FOLDER [--calls 40] [--only two,killed,cut]

Needs root on Linux, `ip`, `unshare` and `nsenter`, and besides the project
`pip install ray s3fs 'moto[server]'`. FOLDER has a short name, since Ray's sockets lie in it. What is done
there is not done again, so a run that was ended goes on with the same command.

Five namespaces: a switch, the head of a Ray cluster without cores on which the driver runs too, two nodes of
one core, and an S3 server that holds the calls. Each has a network, processes and a /dev/shm of its own; the
nodes do not see FOLDER, so that a call reaches them only from the server.

    one     the local engine, on the head; what the others are compared with
    two     both nodes
    killed  the power of a node is switched off in the middle: its link goes and its processes, at once
    cut     the cable of the driver is out for 20 s in the middle, then in again

Every night must end well and hold the rows of `one` (`same_rows.py`). What it printed, how long it took and
how often the server was asked for a call is kept in FOLDER/NIGHT.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NIGHTS = ("one", "two", "killed", "cut")
CUT_S = 20.0
NODES = ("node1", "node2")
ADDRESS = {"head": "10.231.7.1", "node1": "10.231.7.2", "node2": "10.231.7.3", "store": "10.231.7.4"}
GATEWAY = "10.231.7.254"  # a route to everywhere, as machines have one; it leads nowhere
GCS_PORT, STORE_PORT = 6379, 5000
STARTS_S = 600.0  # a loaded machine starts Ray slowly
NIGHT_S = 3600.0
BUCKET = "s3://calls/night"
SMALL = ("--object-store-memory", "100000000", "--disable-usage-stats", "--include-dashboard", "false")
ENVIRONMENT = {
    **os.environ,
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    "AWS_ENDPOINT_URL": f"http://{ADDRESS['store']}:{STORE_PORT}",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def ip(*args: str, at: str | None = None) -> None:
    """`ip` in a machine's network. Raises CalledProcessError with what it said on the terminal."""
    subprocess.run(["ip", *(("-n", f"ca-{at}") if at else ()), *args], check=True)


@dataclass
class Machine:
    """One namespace, and the process that is the first of its own processes: with it they all end."""

    name: str
    work: Path
    sees_work: bool
    first: subprocess.Popen[bytes] | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.work / f"{self.name}.log"

    def plug(self) -> None:
        """A network with one cable to the switch."""
        ip("netns", "add", f"ca-{self.name}")
        ends = ("type", "veth", "peer", "name", self.name, "netns", "ca-switch")
        ip("link", "add", "eth0", "netns", f"ca-{self.name}", *ends)
        ip("link", "set", self.name, "master", "bridge", "up", at="switch")
        ip("address", "add", f"{ADDRESS[self.name]}/24", "dev", "eth0", at=self.name)
        for device in ("lo", "eth0"):
            ip("link", "set", device, "up", at=self.name)
        ip("route", "add", "default", "via", GATEWAY, at=self.name)

    def cable(self, state: str) -> None:
        """Pull the cable at the switch ("down") or put it in again ("up")."""
        ip("link", "set", self.name, state, at="switch")

    def start(self, *command: str) -> None:
        """Run a command for as long as the machine runs."""
        hidden = "mount -t tmpfs tmpfs /dev/shm"
        if not self.sees_work:
            hidden += f" && mount -t tmpfs tmpfs {self.work}"
        # A shell that stays is the first process; Ray's own would end before its daemons do.
        script = f'{hidden} && "$@"; echo "ended with $?"; exec sleep infinity'
        inside = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        # `ip netns exec` replaces /sys, so that it comes first.
        at = ["ip", "netns", "exec", f"ca-{self.name}", *inside, "sh", "-c", script, "sh", *command]
        with self.log.open("ab") as log:
            self.first = subprocess.Popen(at, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True)

    def inside(self, *command: str) -> list[str]:
        """A command line that runs a command on this machine."""
        assert self.first is not None
        children, until = (
            Path(f"/proc/{self.first.pid}/task/{self.first.pid}/children"),
            time.monotonic() + 60,
        )
        while not (found := children.read_text().split()):
            if time.monotonic() > until:
                sys.exit(f"{self.name} does not start: {self.log.read_text()}")
            time.sleep(0.1)
        return ["nsenter", "--target", found[0], "--mount", "--net", "--pid", *command]

    def off(self) -> None:
        """End all of its processes at once."""
        if self.first is not None:
            self.first.send_signal(signal.SIGKILL)  # --kill-child: the first process inside follows
            self.first.wait()
        self.first = None


@contextmanager
def machines(work: Path) -> Iterator[dict[str, Machine]]:
    """The namespaces, without anything that runs; removed afterwards."""
    made = {name: Machine(name, work, sees_work=name in ("head", "store")) for name in ADDRESS}
    unplug()
    try:
        ip("netns", "add", "ca-switch")
        ip("link", "add", "bridge", "type", "bridge", at="switch")
        ip("address", "add", f"{GATEWAY}/24", "dev", "bridge", at="switch")
        ip("link", "set", "bridge", "up", at="switch")
        for machine in made.values():
            machine.plug()
        yield made
    finally:
        for machine in made.values():
            machine.off()
        unplug()


def unplug() -> None:
    there = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    for line in there.splitlines():
        if (name := line.split()[0]) in {"ca-switch", *(f"ca-{name}" for name in ADDRESS)}:
            ip("netns", "del", name)


def python(*args: str) -> list[str]:
    return [sys.executable, *args]


def start_store(store: Machine, calls: Path) -> None:
    """The S3 server with the calls in it."""
    store.start(*python("-m", "moto.server", "-H", "0.0.0.0", "-p", str(STORE_PORT)))
    fill = (
        "import sys, fsspec; store = fsspec.filesystem('s3'); store.mkdir('calls');"
        " store.put(sys.argv[1] + '/', 'calls/night/', recursive=True)"
    )
    until = time.monotonic() + STARTS_S
    while subprocess.run(
        store.inside(*python("-c", fill, str(calls))), env=ENVIRONMENT, stderr=subprocess.DEVNULL, check=False
    ).returncode:
        if time.monotonic() > until:
            sys.exit(f"the S3 server does not start: {store.log.read_text()}")
        time.sleep(1)


def start_ray(made: dict[str, Machine], nodes: Sequence[str]) -> None:
    """The head without cores, and the nodes with one each; returns once they are known to each other."""
    ray = python("-m", "ray.scripts.scripts", "start", "--block", *SMALL)
    head = made["head"]
    at_head = f"{ADDRESS['head']}:{GCS_PORT}"
    own = ("--temp-dir", str(head.work / "ray-head"), "--num-cpus", "0")
    head.start(*ray, "--head", "--port", str(GCS_PORT), "--node-ip-address", ADDRESS["head"], *own)
    for name in nodes:
        address = ("--address", at_head, "--node-ip-address", ADDRESS[name], "--num-cpus", "1")
        # The head may not answer yet.
        again = 'until "$@"; do sleep 2; done'
        made[name].start("sh", "-c", again, "sh", *ray, *address)
    ask = (
        f"import ray; ray.init({at_head!r}, log_to_driver=False);"
        " print(ray.cluster_resources().get('CPU', 0.0))"
    )
    until = time.monotonic() + STARTS_S
    while True:
        said = subprocess.run(
            head.inside(*python("-c", ask)), env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        if said.stdout.strip() == f"{len(nodes)}.0":
            return
        if time.monotonic() > until:
            logs = "\n".join(made[name].log.read_text()[-2000:] for name in ("head", *nodes))
            sys.exit(f"the cluster does not start: {said.stderr[-2000:]}\n{logs}")
        time.sleep(1)


def n_fetched(store: Machine) -> Counter[str]:
    """How often the server was asked for each call."""
    lines = store.log.read_text(errors="replace")
    found = re.findall(r"GET /calls/night/([^\s?]+)(?:\?\S*)? HTTP", lines)
    return Counter(found)


def run_night(name: str, made: dict[str, Machine], work: Path, n_calls: int) -> dict[str, Any]:
    """One night, with what is done to it once a third of the calls were fetched."""
    head, store = made["head"], made["store"]
    kind = "local" if name == "one" else "ray"
    engine = f'kind = "{kind}"\n' + f'address = "{ADDRESS["head"]}:{GCS_PORT}"\n' * (kind == "ray")
    config = work / f"{name}.toml"
    config.write_text(
        f"[engine]\n{engine}workers = {1 if kind == 'local' else 0}\n[discovery]\nsettle_s = 0\n"
    )
    command = python("-m", "callanalytics", "run", "--since", "2000-01-01", "--json", "--config", str(config))
    command += ["--input", BUCKET, "--out", str(work / f"out-{name}")]
    before, began = n_fetched(store), time.monotonic()
    done: list[tuple[float, str]] = []
    with (
        (work / f"{name}.err").open("w") as errors,
        subprocess.Popen(
            head.inside(*command), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as night,
    ):
        while night.poll() is None:
            time.sleep(0.5)
            passed_s = time.monotonic() - began
            if passed_s > NIGHT_S:
                night.kill()
            if not done and len(n_fetched(store) - before) >= n_calls / 3:
                if name == "killed":
                    made["node2"].cable("down")
                    made["node2"].off()
                    done.append((passed_s, "node2 is off"))
                elif name == "cut":
                    made["head"].cable("down")
                    done.append((passed_s, "the driver's cable is out"))
            if name == "cut" and len(done) == 1 and passed_s - done[0][0] >= CUT_S:
                made["head"].cable("up")
                done.append((passed_s, "the driver's cable is in"))
        said = night.stdout.read() if night.stdout else ""
    counts = n_fetched(store) - before
    result: dict[str, Any] = {"exit_code": night.returncode, "seconds": round(time.monotonic() - began, 1)}
    result["happened"] = [f"{text} at {at_s:.0f} s" for at_s, text in done]
    result |= {"n_fetched": counts.total(), "n_fetched_again": sum(n > 1 for n in counts.values())}
    with suppress(ValueError, IndexError):
        result["run"] = json.loads(said.splitlines()[-1])
    return result


def same_rows(work: Path, name: str) -> tuple[bool, str]:
    databases = [str(work / f"out-{one}" / "callanalytics.duckdb") for one in ("one", name)]
    said = subprocess.run(
        python(str(ROOT / "benchmarks" / "same_rows.py"), *databases),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.returncode == 0, said.stdout + said.stderr


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="its `calls` are the sources; without: synthetic calls")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--calls", type=int, default=40)
    parser.add_argument("--only", default=",".join(NIGHTS[1:]), help="of two, killed and cut")
    given = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("network namespaces need root")
    from nights import build_night, source_calls

    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    calls = work / "calls"
    if not calls.exists():
        source = min(source_calls(given.data), key=len)
        build_night(calls, given.calls * len(source) / 8000 / 3600, [source], stereo=True)
    n_calls = len(list(calls.iterdir()))
    failed = False
    with machines(work) as made:
        start_store(made["store"], calls)
        for name in ("one", *(name for name in NIGHTS[1:] if name in given.only.split(","))):
            kept = work / f"{name}.json"
            if not kept.exists():
                if name == "one":
                    made["head"].start("true")
                else:
                    start_ray(made, NODES)
                result = run_night(name, made, work, n_calls)
                for machine in ("head", *NODES):
                    made[machine].off()
                    made[machine].cable("up")
                kept.write_text(json.dumps(result, indent=1))
            result = json.loads(kept.read_text())
            same, said = same_rows(work, name)
            run = result.get("run", {})
            good = result["exit_code"] == 0 and run.get("n_done") == n_calls and same
            failed |= not good
            print(
                f"{name}: exit {result['exit_code']}, {run.get('n_done')} of {n_calls} calls done in "
                f"{result['seconds']:.0f} s, {result['n_fetched_again']} fetched again; "
                f"{'; '.join(result['happened']) or 'nothing happened'}; "
                f"{'same rows' if same else 'OTHER ROWS'}",
                flush=True,
            )
            if not good:
                print(said, (work / f"{name}.err").read_text()[-3000:])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
