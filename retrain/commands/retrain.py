"""`robomask retrain`: train on from the version in service, publish what is no worse, see it into service."""

from __future__ import annotations

import logging
import os
import sys
import time

from pydantic_settings import CliApp

from export.evaluate import EvaluationError
from export.to_onnx import ExportError
from retrain.chain import retrain
from retrain.config import RetrainConfig
from retrain.journal import FILE
from retrain.table import table
from service.client.errors import ClientError
from service.contract import BundleInvalid
from training.commands.flags import repeat_flags
from training.commands.train import quieten_lightning

STATUS = {"published": 0, "activated": 0, "promoted": 0, "on-trial": 0, "worse": 3, "timed-out": 5}
"""Exit status of each outcome; 4 for those in which the service or somebody there has turned the version away."""


def main(argv: list[str]) -> int:
    """Run from the command line; returns the exit status."""
    config = CliApp.run(RetrainConfig, cli_args=repeat_flags(argv))
    quieten_lightning()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("export").setLevel(logging.INFO)
    try:
        record = retrain(config, token=os.environ.get("ROBOMASK_ADMIN_TOKEN"), clock=time.monotonic, wait=time.sleep)
    except (ValueError, OSError, ExportError, EvaluationError, BundleInvalid, ClientError) as error:
        print(f"robomask retrain: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
        print(f"robomask retrain: interrupted; the same command goes on from {config.out}", file=sys.stderr)
        return 130
    print(table(record))
    print(f"{config.out / FILE}: all figures")
    return STATUS.get(str(record.outcome), 4)
