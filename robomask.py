"""The `robomask` command. Each subcommand is imported only when it is called, so serving never loads torch."""

from __future__ import annotations

import importlib
import sys
from typing import NamedTuple


class Command(NamedTuple):
    """Where a subcommand lives, the extra that installs what it needs, and what it does."""

    module: str
    extra: str
    does: str


COMMANDS: dict[str, Command] = {
    "simulate": Command("training.commands.simulate", "sim", "render robot-pushing clips with exact masks"),
    "pretrain": Command("training.commands.pretrain", "train", "train VideoGPT from clips: vqvae, then prior"),
    "train": Command("training.commands.train", "train", "finetune an encoder and a head on frames with masks"),
    "average": Command("training.commands.average", "train", "the mean of several runs' weights, as a run"),
    "label": Command("training.commands.label", "train", "propose masks for clips from motion, to be corrected"),
    "ablate": Command("training.commands.ablate", "train", "the paper's Table 1, measured on scenes held out"),
    "sweep": Command("training.commands.sweep", "sweep", "search hyper-parameters of finetuning"),
    "evaluate": Command("export.commands.evaluate", "train", "IoU of a run, a bundle or a URL on a data set"),
    "export": Command("export.commands.export", "train", "turn a run folder into a verified ONNX bundle"),
    "retrain": Command("retrain.commands.retrain", "train", "train on, compare, publish, and see it into service"),
    "bench": Command("service.commands.bench", "bench", "measure a service: load, overload, the model alone"),
    "segment": Command("service.commands.segment", "segment", "pictures, folders or videos in, masks out"),
    "models": Command("service.commands.models", "client", "list, activate, roll back, shadow, canary on a service"),
    "serve": Command("service.commands.serve", "serve", "serve a bundle over HTTP"),
}


def usage() -> str:
    """The list of subcommands."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.does}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: robomask COMMAND [OPTIONS]", "", *lines, "", "robomask COMMAND --help says more."])


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; returns the process's exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(usage())
        return 0 if arguments else 2
    name, *rest = arguments
    command = COMMANDS.get(name)
    if command is None:
        print(f"robomask: no command {name!r}\n\n{usage()}", file=sys.stderr)
        return 2
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in {"service", "training", "export", "retrain"}:
            raise
        print(
            f"robomask {name} needs the package {error.name!r}, which is not installed: "
            f"pip install 'robomask[{command.extra}]'",
            file=sys.stderr,
        )
        return 1
    try:
        status: int = module.main(rest)
    except KeyboardInterrupt:
        print(f"robomask {name}: interrupted", file=sys.stderr)
        return 130
    except ValueError as error:
        return _refuse(name, error)
    return status


def _refuse(name: str, error: ValueError) -> int:
    """Say which options are out of their range; an error that is about anything else is raised again."""
    from pydantic import ValidationError  # noqa: PLC0415 - has been imported by now, if it is that

    from service.commands.refusal import refuse  # noqa: PLC0415 - as the commands are

    if not isinstance(error, ValidationError):
        raise error
    return refuse(name, error)


if __name__ == "__main__":
    sys.exit(main())
