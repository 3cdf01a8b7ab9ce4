"""Makes the pictures of the documentation from a real server and a real Chromium: `python -m docs.pictures`."""
