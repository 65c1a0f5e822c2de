"""The gateway: an ASGI application that serves the runtime behind public wires."""
