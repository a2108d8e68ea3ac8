"""Run a measurement and put what it prints into benchmarks/RESULTS.md, with command, machine and commit.

    python benchmarks/record.py flags-13 python benchmarks/escalation.py --data DATA --calls 60 --seed 13

NAME is a block of RESULTS.md, between `<!-- NAME -->` and `<!-- /NAME -->`; a new one is added at the end.
Folders are written as DATA where they lie in `CALLANALYTICS_DATA`, and DATA in the command stands for it.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    name, command = sys.argv[1], sys.argv[2:]
    data = os.environ.get("CALLANALYTICS_DATA", "../shared")
    given = [re.sub(r"\bDATA\b", data, word) for word in command]
    ran = subprocess.run(given, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=False)
    print(ran.stdout)
    if ran.returncode:
        sys.exit(f"exit {ran.returncode}: nothing recorded")
    shown = shlex.join(command).replace(data, "DATA")
    block = (
        f"| command | machine | commit |\n| --- | --- | --- |\n"
        f"| `{shown}` | {machine()} | {commit()}, {date.today()} |\n\n"
        f"```text\n{ran.stdout.replace(data, 'DATA').strip()}\n```\n"
    )
    RESULTS.write_text(with_block(RESULTS.read_text(encoding="utf-8"), name, block), encoding="utf-8")


def with_block(text: str, name: str, block: str) -> str:
    """`text` with the block of that name replaced, or added at the end under a heading of its own."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    if begin not in text:
        return f"{text.rstrip()}\n\n## {name}\n\n{begin}{block}{end}"
    before, _, rest = text.partition(begin)
    return f"{before}{begin}{block}{end}{rest.partition(end)[2]}"


def machine() -> str:
    """Cores, processor and memory."""
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {cpu[1] if cpu else platform.machine()}, {memory_gb:.0f} GB"


def commit() -> str:
    """The short hash of the code that ran, with a + when it has changes that are not committed."""
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
