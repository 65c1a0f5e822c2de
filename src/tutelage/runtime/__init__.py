"""Types, protocols, the request path, models and the store."""
