"""The routes of a server, one idea a file."""
