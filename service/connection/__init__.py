"""Bytes on a connection, below HTTP's routes: what uvicorn's protocol leaves open or does at length."""
