"""Stop the service under load, again and again, and count the requests that went without an answer.

    python -m benchmarks.drain --rounds 50 --clients 16

Each round starts `robomask serve`, lets clients send frames one after the other, sends SIGTERM at a random moment, and
waits for the end. What a client sees is one of these:

answered     a complete answer, whichever its status
turned away  the connection was refused: nothing was sent, another replica can be asked
lost         a request was sent on a connection that had been made, and no complete answer came

`lost` is split by the connection: a `new` one had been taken by the kernel and never by the service; a `kept` one had
answered before, and was closed while the next request was on its way. Ends with status 1 if anything was lost, or if
the service ended with another status than 0 or not within its grace period.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from service.bench.servers import free_port, is_ready

_LOST = (http.client.HTTPException, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)


class Round(NamedTuple):
    """What one round came to.

    Attributes:
        seen: How often clients saw what; lost ones by connection and error.
        status: The service's exit status.
        stop_s: Seconds from the signal to the end of the process.
    """

    seen: collections.Counter[str]
    status: int
    stop_s: float

    @property
    def answered(self) -> int:
        """Complete answers."""
        return sum(count for name, count in self.seen.items() if name.startswith("answered"))

    @property
    def lost(self) -> int:
        """Requests that were sent and not answered."""
        return sum(count for name, count in self.seen.items() if name.startswith("lost"))


class Client(threading.Thread):
    """Sends a frame, waits for the answer, sends the next, until it is turned away.

    Args:
        port: The service's port on this machine.
        frame: An encoded picture.
        keep: Whether to use one connection for many requests.
    """

    def __init__(self, port: int, frame: bytes, *, keep: bool) -> None:
        super().__init__(daemon=True)
        self.seen: collections.Counter[str] = collections.Counter()
        self._port = port
        self._frame = frame
        self._keep = keep

    def run(self) -> None:
        """Until the service takes no connection."""
        while self._connection():
            pass

    def _connection(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.connect()
        except ConnectionRefusedError:
            self.seen["turned away"] += 1
            return False
        except ConnectionResetError:  # the socket was closed between two steps of making the connection
            self.seen["turned away"] += 1
            return False
        kind = "new"
        try:
            while True:
                connection.request("POST", "/segment", self._frame, {"Content-Type": "image/png"})
                response = connection.getresponse()
                response.read()
                self.seen[f"answered {response.status}"] += 1
                if not self._keep or response.will_close:
                    return True
                kind = "kept"
        except _LOST as error:
            self.seen[f"lost on a {kind} connection: {type(error).__name__}"] += 1
            return True
        finally:
            connection.close()


def stop_under_load(
    frame: bytes, clients: int, after_s: float, *, keep: bool, patience_s: float, options: list[str]
) -> Round:
    """One round.

    Args:
        frame: An encoded picture.
        clients: How many send at one time.
        after_s: When to send the signal, from the moment that every client has had an answer.
        keep: Whether clients keep their connections.
        patience_s: How long the service may take to end.
        options: More options of `robomask serve`.
    """
    port = free_port()
    command = [sys.executable, "-m", "robomask", "serve", "--port", str(port), "--log-level", "warning", *options]
    with subprocess.Popen(command) as process:  # noqa: S603 - fixed arguments and the caller's own
        try:
            _wait_ready(port, process)
            senders = [Client(port, frame, keep=keep) for _ in range(clients)]
            for sender in senders:
                sender.start()
            while not all(sender.seen for sender in senders):
                time.sleep(0.01)
            time.sleep(after_s)
            process.send_signal(signal.SIGTERM)
            signalled = time.perf_counter()
            try:
                status = process.wait(patience_s)
            except subprocess.TimeoutExpired:
                status = -signal.SIGKILL
            stop_s = time.perf_counter() - signalled
        finally:
            process.kill()
    seen: collections.Counter[str] = collections.Counter()
    for sender in senders:
        sender.join(60)
        seen += sender.seen
    return Round(seen, status, stop_s)


def main() -> int:
    """Run from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--rounds", type=int, default=50, help="times to stop the service, with either kind (default: 50)"
    )
    parser.add_argument("--clients", type=int, default=16, help="clients at one time (default: 16)")
    parser.add_argument(
        "--connections",
        choices=["kept", "new", "both"],
        default="both",
        help="one for many requests, one for each, or rounds of the one and then of the other (default: both)",
    )
    parser.add_argument("--frame", type=Path, default=Path("examples/frame.png"), help="the picture that is sent")
    parser.add_argument("--patience", type=float, default=40, help="grace period in seconds (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the signal (default: 0)")
    chosen, options = parser.parse_known_args()
    moments = random.Random(chosen.seed)  # noqa: S311 - no secret
    kinds = ["kept", "new"] if chosen.connections == "both" else [chosen.connections]
    whole = True
    for kind in kinds:
        rounds: list[Round] = []
        for number in range(1, chosen.rounds + 1):
            result = stop_under_load(
                chosen.frame.read_bytes(),
                chosen.clients,
                moments.uniform(0, 0.5),
                keep=kind == "kept",
                patience_s=chosen.patience,
                options=options,
            )
            rounds.append(result)
            print(
                f"{kind} connections, round {number}: status {result.status} after {result.stop_s:.2f} s, "
                f"{result.answered} answered, {result.lost} lost",
                flush=True,
            )
        _report(kind, rounds)
        whole &= all(result.lost == 0 and result.status == 0 for result in rounds)
    return 0 if whole else 1


def _report(kind: str, rounds: list[Round]) -> None:
    total = sum((result.seen for result in rounds), collections.Counter())
    stops = sorted(result.stop_s for result in rounds)
    statuses = dict(collections.Counter(result.status for result in rounds))
    print(f"{kind} connections, {len(rounds)} rounds:")
    for name, count in sorted(total.items()):
        print(f"  {name:58} {count:6}")
    print(f"  {'lost answers':58} {sum(result.lost for result in rounds):6}")
    print(f"  rounds with a loss: {sum(result.lost > 0 for result in rounds)}; exit statuses: {statuses}")
    print(f"  seconds to stop: median {stops[len(stops) // 2]:.2f}, longest {stops[-1]:.2f}", flush=True)


def _wait_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    while not is_ready(port):
        if process.poll() is not None:
            raise SystemExit("expected `robomask serve` to start, it ended; its own message says why")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
