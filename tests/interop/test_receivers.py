"""The receivers of the documentation, each started as its readers would, verify what the release binary sends them.

Each is told its secret by the environment, takes a free port, and prints what it makes of a request.
"""

import http.client
import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

from test_interop import Interop, PATIENCE

CHECKOUT = Path(__file__).parents[2]
PYTHON_RECEIVER = CHECKOUT / "docs/receivers/receiver.py"


class Receivers(Interop):
    """The same server; each test brings a receiver of its own."""

    def deliver_to(self, *command):
        """Starts a receiver, points the endpoint at it, and publishes."""
        environment = {**os.environ, "WEBHOOK_SECRET": self.reveal(), "PORT": "0"}
        receiver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True)
        self.addCleanup(receiver.stdout.close)
        self.addCleanup(receiver.wait, PATIENCE)
        self.addCleanup(receiver.kill)
        first_line = receiver.stdout.readline()
        self.assertTrue(first_line.startswith("listening on "), f"the receiver said {first_line!r}")
        port = first_line.split()[-1]
        self.point_at(f"http://127.0.0.1:{port}/")
        status, answer = self.post("event/", '{"type":"vote.created","data":{"text":"caffè ☕"}}'.encode())
        self.assertEqual(status, 201, answer)
        event = json.loads(answer)

        line = receiver.stdout.readline()
        self.assertIn("verified:", line)
        self.assertIn(f"evt_{event['event_id']}", line)
        self.assertIn("caffè ☕", line)

        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=PATIENCE)
        forged = {"webhook-id": "evt_1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA", "Postrider-Signature": "t=1,v1=00"}
        connection.request("POST", "/", b"{}", forged)
        self.assertEqual(connection.getresponse().status, 400)
        connection.close()
        self.assertIn("refused", receiver.stdout.readline())

    def point_at(self, target):
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        path = f"/api/v2/webhook/endpoint/{self.endpoint}/"
        connection.request("PATCH", path, json.dumps({"target": target}), headers)
        response = connection.getresponse()
        self.assertEqual(response.status, 200, response.read())
        connection.close()

    def test_the_python_receiver(self):
        self.deliver_to(sys.executable, PYTHON_RECEIVER)

    def test_the_node_receiver(self):
        self.deliver_to("node", Path(os.environ["POSTRIDER_NODE_DIR"]) / "receiver.mjs")

    def test_the_rust_receiver(self):
        self.deliver_to(os.environ["POSTRIDER_RUST_RECEIVER"])


# The parent's own tests run in its own module.
for name in [name for name in dir(Interop) if name.startswith("test_")]:
    setattr(Receivers, name, None)
del Interop
