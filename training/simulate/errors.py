"""What can go wrong with a simulation."""


class SimulationError(RuntimeError):
    """The simulator cannot run here; the message says what was expected, what was found, and what to do."""
