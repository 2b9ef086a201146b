"""The daemon's HTTP server: its API, and the page at `/`."""
