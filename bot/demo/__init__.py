"""The demo: the whole bot in one process, with a web page or this terminal for a messenger."""
