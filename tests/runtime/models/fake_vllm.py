"""Stands in for ``vllm serve``: answers /health and /metrics, and has a child process.

The environment variable FAKE_VLLM makes it ``crash`` at once or ``hang`` without ever listening.
"""

import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

PAGE = b"""# HELP vllm:prefix_cache_queries_total Queries
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="student"} 1000.0
vllm:prefix_cache_queries_created{engine="0",model_name="student"} 1.7e+09
vllm:prefix_cache_hits_total{engine="0",model_name="student"} 256.0
vllm:external_prefix_cache_hits_total{engine="0",model_name="student"} 7.0
vllm:prompt_tokens_total{engine="0",model_name="student"} 1200.0
vllm:generation_tokens_total{engine="0",model_name="student"} 34.0
vllm:generation_tokens_total{engine="1",model_name="student"} 1.0
"""


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(PAGE if self.path == "/metrics" else b"")

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    print("arguments", *sys.argv[1:], flush=True)
    names = ("VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_OMP_THREADS_BIND", "HF_HUB_OFFLINE")
    print("environment", *(f"{name}={os.environ.get(name)}" for name in names), flush=True)
    mode = os.environ.get("FAKE_VLLM")
    if mode == "crash":
        sys.exit("no such architecture: Frobnicator")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("child", child.pid, flush=True)
    if mode == "hang":
        time.sleep(600)
    port = int(sys.argv[sys.argv.index("--port") + 1])
    HTTPServer(("127.0.0.1", port), Answers).serve_forever()


if __name__ == "__main__":
    main()
