"""The drawing of charts, in a process of its own: the renderer ends its process when memory is short.

V8 reserves far more address space than it uses and aborts where `ulimit -v` denies it. In a child that is an
error like any other. One child draws all charts of a process, one line of JSON each way a chart.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from callanalytics.errors import ReportError

_lock = threading.Lock()
_child: subprocess.Popen[str] | None = None


def draw(spec: Mapping[str, Any], format_locale: Mapping[str, Any]) -> str:
    """The SVG of a Vega-Lite specification.

    Raises:
        ReportError: the child cannot start or has ended.
    """
    global _child  # noqa: PLW0603 - one child for the life of this process
    with _lock:
        if _child is None or _child.poll() is not None:
            _child = _started()
        assert _child.stdin is not None and _child.stdout is not None  # noqa: S101, PT018 - pipes
        try:
            _child.stdin.write(json.dumps({"spec": spec, "format_locale": format_locale}) + "\n")
            _child.stdin.flush()
            answer = _child.stdout.readline()
        except OSError:  # it ended before it read
            answer = ""
        if not answer:
            code = _child.wait()
            raise ReportError(
                f"The charts cannot be drawn: the process that draws them ended ({code}), as it does where "
                "memory is short or its address space limited (ulimit -v). Raise the limit, then run "
                "`callanalytics report` again."
            )
        return str(json.loads(answer))


def _started() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", __name__]
    try:
        # It ends when this process does, since its input ends then.
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    except OSError as problem:
        raise ReportError(
            f"The charts cannot be drawn: no process can be started ({problem}). Free memory and run "
            "`callanalytics report` again."
        ) from problem


def _serve() -> None:
    """In the child: draw until the input ends."""
    import signal

    import vl_convert

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C the parent decides
    for line in sys.stdin:
        asked = json.loads(line)
        svg: str = vl_convert.vegalite_to_svg(asked["spec"], format_locale=asked["format_locale"])
        print(json.dumps(svg), flush=True)


if __name__ == "__main__":
    _serve()
