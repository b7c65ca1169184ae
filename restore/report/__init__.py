"""The HTML page and the strip that show before and after."""
