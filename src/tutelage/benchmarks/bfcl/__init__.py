"""BFCL multi-turn: function calling over several requests, judged by the package itself."""
