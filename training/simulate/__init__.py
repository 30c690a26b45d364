"""A digital twin of the BAIR robot-pushing bin: clips with exact robot masks."""
