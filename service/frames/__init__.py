"""Pictures of any kind -> the 64x64 that the model sees, and what it says of them -> masks of the frame."""
