"""The machine underneath: cores, memory, processor."""
