"""HTTP and WebSocket: routes, what is read from requests, how answers and errors are written."""
