"""`restore serve`: the tasks over HTTP, with a page for the browser."""
