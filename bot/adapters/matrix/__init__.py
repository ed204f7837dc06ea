"""The Matrix messenger: matrix-nio encrypts, reads and sends."""
