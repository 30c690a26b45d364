"""`robomask models`: what a running service serves, and changing it."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from service.client.admin import SHARES, ModelAdmin, gate_of
from service.client.errors import ClientError
from service.commands.printing import print_to_who_reads

if TYPE_CHECKING:
    from service.client.admin import Listing, Mode

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Ask a service; returns the process's exit status."""
    chosen = _parser().parse_args(argv)
    try:
        with ModelAdmin(chosen.url, os.environ.get("ROBOMASK_ADMIN_TOKEN")) as admin:
            listing = _ask(admin, chosen)
    except ClientError as error:
        print(f"robomask models: {error}", file=sys.stderr)
        return 1
    print_to_who_reads(json.dumps(listing) if chosen.json else "\n".join(_lines(listing)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="robomask models",
        description="What a running service serves, for everybody, and changing it: activate, rollback, shadow and "
        "canary need ROBOMASK_ADMIN_TOKEN, set to the service's own.",
        parents=[_options("http://127.0.0.1:8000", as_it_is=False)],
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = partial(actions.add_parser, parents=[_options(argparse.SUPPRESS, as_it_is=argparse.SUPPRESS)])
    add("list", help="versions, what each is doing, the trial, and what was done lately")
    add("activate", help="put a version into service").add_argument("version", type=int)
    add("rollback", help="go back to the version that served before")
    tries: dict[Mode, str] = {
        "shadow": "let a version run a share of streams again, and compare",
        "canary": "let a version answer a share of streams, and compare",
    }
    for name, does in tries.items():
        action = add(name, help=does)
        action.add_argument("version", type=int)
        action.add_argument("--share", type=_share, default=SHARES[name], help="%(default)s; 0 ends it")
        action.add_argument(
            "--promote-if",
            metavar="GATE",
            help="take over or be dropped by itself: frames=1000,min_iou=0.9,max_latency_ratio=1.2,max_error_rate=0",
        )
    return parser


def _options(url: str, *, as_it_is: bool | str) -> argparse.ArgumentParser:
    """Options that stand before the action or after it.

    Args:
        url: Default of `--url`. Defaults after the action are suppressed, or they would undo what stood before it.
        as_it_is: Default of `--json`.
    """
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--url", default=url, help="address of the service (http://127.0.0.1:8000)")
    options.add_argument("--json", action="store_true", default=as_it_is, help="print the service's answer as it is")
    return options


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:  # NaN is not either
        raise argparse.ArgumentTypeError(f"expected a share of streams, 0 to 1, got {text}")
    return share


def _ask(admin: ModelAdmin, chosen: argparse.Namespace) -> Listing:
    if chosen.action == "list":
        return admin.listing()
    if chosen.action == "activate":
        return admin.activate(chosen.version)
    if chosen.action == "rollback":
        return admin.rollback()
    gate = gate_of(chosen.promote_if) if chosen.promote_if else None
    return admin.attempt(chosen.action, chosen.version, share=chosen.share, promote_if=gate)


def _lines(listing: Listing) -> list[str]:
    lines = [f"{listing['name']}: {'ready' if listing['ready'] else 'not ready'}"]
    for version in listing["versions"]:
        facts = [
            version.get("precision"),
            version.get("provider"),
            (version.get("sha256") or "")[:12],
            version.get("reason"),
        ]
        lines.append(
            f"  {version['version']:>6}  {version['state']:<9}  {'  '.join(fact for fact in facts if fact)}".rstrip()
        )
    trial = listing.get("trial")
    if trial is not None:
        found = {
            name: value for name, value in trial.items() if name not in {"mode", "version", "against", "promote_if"}
        }
        lines.append(f"{trial['mode']} of {trial['version']} against {trial['against']}:")
        lines += [f"  {name:<17} {value}" for name, value in found.items()]
        if trial.get("promote_if"):
            lines.append(f"  {'promote_if':<17} {', '.join(f'{k}={v}' for k, v in trial['promote_if'].items())}")
    lines += [
        f"{event['at']}  {event['action']} {event.get('version') or ''} by {event['by']}: {event['result']}"
        + (f" ({event['reason']})" if event.get("reason") else "")
        for event in listing["events"][:10]
    ]
    return lines
