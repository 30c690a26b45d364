"""What `robomask bench` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from service.arguments import Arguments
from service.contract import Precision

__all__ = ["BenchConfig"]

_PICTURES: Final = (".png", ".pdf", ".svg", ".jpg")


class BenchConfig(Arguments):
    """Measure a service: closed loops, an open loop at camera rate, and, beside them, what the model alone can do."""

    model_config = SettingsConfigDict(cli_prog_name="robomask bench")

    url: str | None = Field(
        None,
        description="http://host:port of the service, with v2 also a path before it; or the whole address of its route",
    )
    serve: bool = Field(False, description="start the service on this machine for the benchmark, with --bundle")
    serve_options: str = Field("", description="more options of robomask serve, as one text")
    bundle: Path | None = Field(
        None, description="<repository>/<model>/<version>: report also what this model does with no service around it"
    )
    precision: Precision | None = Field(None, description="which of the bundle's models; by default its own choice")

    protocol: Literal["segment", "v2"] = Field("segment", description="/segment, or /v2 infer with binary tensors")
    payload: tuple[str, ...] = Field(
        ("png",), description="png (64x64), raw (64x64 RGB), jpeg (1280x720), or files; with v2 always raw"
    )
    accept: str = Field("application/json", description="form of answer to ask /segment for")
    v2_model: str = Field("robot-arm", description="model that v2 is asked for")
    v2_input: str = Field("frames", description="name of its input")
    v2_output: str = Field("probability", description="name of its output")

    clients: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        (1, 16), description="closed loops with so many clients, in turn; [] for none"
    )
    seconds: float = Field(3.0, gt=0, description="seconds of each closed loop")
    rounds: int = Field(
        5, ge=1, description="rounds of closed loops, each with the ceiling before and after it; medians are reported"
    )

    robots: int = Field(0, ge=0, description="open loop with so many robots")
    load: float = Field(0.0, ge=0, description="or with as many as offer so many times the closed loops' best rate")
    hz: float = Field(30.0, gt=0, description="frames a second of each robot")
    open_seconds: float = Field(10.0, gt=0, description="seconds of the open loop")
    deadline_ms: float | None = Field(100.0, gt=0, description="until when an answer is worth having")
    send_deadline: bool = Field(True, description="whether to tell the service so, with X-Deadline-Ms")
    streams: bool = Field(False, description="give each robot an X-Stream-Id of its own")

    pid: int | None = Field(None, description="process of the service, if it runs on this machine, to watch its memory")
    nice: int = Field(-10, ge=-20, le=19, description="priority that the load generator asks for, if it may")
    cores: int | None = Field(None, ge=1, description="cores that the ceiling may fill; by default all there are")
    json_file: Path | None = Field(None, alias="json", description="file to write all figures to")
    plot: Path | None = Field(None, description="PNG to draw (needs matplotlib)")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.serve == (self.url is not None):
            raise ValueError("expected either --url or --serve, and not both")
        if self.serve and self.bundle is None:
            raise ValueError("expected --bundle with --serve: the bundle to serve")
        if self.load and not self.clients:
            raise ValueError("expected --clients with --load, which is a multiple of their rate")
        if (self.load or self.robots) and round(self.hz * self.open_seconds) < 1:
            raise ValueError(
                f"expected an open loop long enough for a frame of each robot, got {self.open_seconds:g} s at "
                f"{self.hz:g} Hz"
            )
        if self.load and self.robots:
            raise ValueError("expected --robots or --load, not both")
        return self

    @model_validator(mode="after")
    def _can_be_done_here(self) -> Self:
        if self.pid is not None and not Path(f"/proc/{self.pid}").is_dir():
            raise ValueError(f"expected a process of this machine for --pid, {self.pid} is none")
        for name, file in (("--json", self.json_file), ("--plot", self.plot)):
            if file is not None and not file.parent.is_dir():
                raise ValueError(f"expected a folder to write {name} into, {file.parent} is none")
        if self.plot is not None and self.plot.suffix.lower() not in _PICTURES:
            raise ValueError(f"expected a name that ends in {', '.join(_PICTURES)} for --plot, got {self.plot.name}")
        return self
