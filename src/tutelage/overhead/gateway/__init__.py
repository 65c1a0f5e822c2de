"""The gateway beside other gateways and a bare reference, in one run."""
