"""What a bundle says of how it was made can be done again."""

import shlex
from pathlib import Path

from pydantic_settings import CliApp

from export.lineage import train_command
from training.commands.flags import repeat_flags
from training.config import DataConfig, ModelConfig, TrainConfig


def test_the_command_that_trained_a_model_is_read_as_the_same_settings() -> None:
    data = DataConfig(train=(Path("a b.npz"), Path("c.npz")), shares=(0.25, 0.75), noise=True)
    config = TrainConfig(out=Path("run"), data=data, model=ModelConfig(frozen=True), epochs=3)
    command = train_command(config, config.model_dump(mode="json"))
    words = shlex.split(command)
    assert words[:2] == ["robomask", "train"]
    assert CliApp.run(TrainConfig, cli_args=repeat_flags(words[2:])) == config
