"""The wires: how clients and upstreams say what a chat request, an answer and an error are."""
