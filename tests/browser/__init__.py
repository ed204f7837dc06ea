"""What a browser shows: Playwright drives a Chromium that is there, or one it has downloaded."""
