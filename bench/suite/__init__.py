"""The runner of `make bench`: servers and clients of twspy and of others."""
