"""The release binary against its own OpenAPI document: Schemathesis asks every operation what the document allows, and what
it doesn't, as the operator and as each smaller role.

A 5xx, a status or a content type that is not documented, or a body of another shape fails it. The seed is fixed and the
number of examples bounded, so that a run is one that can be repeated.
"""

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

BINARY = os.environ["POSTRIDER_BINARY"]
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
EXAMPLES = 30
ROLES = ["viewer", "publisher", "admin", "operator"]

# Tokens with small identifiers are revoked on the way, one's own among them.
TOKENS_BEFORE = 50


def call(url, path, body, token):
    request = urllib.request.Request(url + path, data=json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def prepare(url, token):
    """Something behind the small identifiers that are asked for: endpoints, events, users and tokens."""
    for number in range(4):
        endpoint = {"target": f"http://receiver{number}.invalid/", "events": [{"type": "comment.created"}]}
        call(url, "/api/v2/webhook/endpoint/", endpoint, token)
        call(url, "/api/v2/webhook/event/", {"type": "comment.created", "data": {}}, token)
    roles = ["viewer"] * TOKENS_BEFORE + ROLES
    return [call(url, "/api/v2/token/", {"role": role}, token)["token"] for role in roles][TOKENS_BEFORE:]


def ask(url, token, phases, directory):
    schemathesis = Path(sys.executable).parent / "schemathesis"
    arguments = ["--seed", "1", "--max-examples", str(EXAMPLES), "--checks", CHECKS, "--phases", phases, "--no-color"]
    command = [schemathesis, "run", f"{url}/api/openapi.json", "-H", f"Authorization: Bearer {token}", *arguments]
    # It keeps a cache where it runs.
    return subprocess.run(command, cwd=directory).returncode


def main():
    with tempfile.TemporaryDirectory() as directory:
        data_dir = Path(directory) / "data"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("POSTRIDER_")}
        # Nothing answers there, so that no name is asked for on a network.
        serve = [BINARY, "serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir, "--dns-server", "127.0.0.1:1"]
        with subprocess.Popen(
            serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=directory, env=clean, text=True
        ) as server:
            try:
                url = server.stdout.readline().removeprefix("listening on ").strip()
                operator = (data_dir / "admin.token").read_text().strip()
                *smaller, operator = prepare(url, operator)
                # They are mostly turned away, in ways that have to be documented, too.
                failed = max(ask(url, token, "examples,coverage", directory) for token in smaller)
                failed |= ask(url, operator, "examples,coverage,fuzzing,stateful", directory)
                assert server.poll() is None, "the server is still there"
            finally:
                server.terminate()
    return failed


if __name__ == "__main__":
    sys.exit(main())
