"""Other people's libraries verify what the release binary sends: `standardwebhooks`, `stripe`, and `cryptography` for
Ed25519, which neither of the two knows.

A server and a receiver are started on free ports, an endpoint is made over the API, and a real event is published. What
is checked is what a receiver sees: the exact bytes of the body, and both dialects of the signature.
"""

import base64
import http.client
import json
import os
import queue
import subprocess
import tempfile
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from stripe import SignatureVerificationError, WebhookSignature

BINARY = os.environ["POSTRIDER_BINARY"]
DATA = (Path(__file__).parent / "vote_created.json").read_bytes().rstrip(b"\n")
PATIENCE = 60
TOLERANCE = 300
OTHER_SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


class Receiver(BaseHTTPRequestHandler):
    """Keeps each request in the order of arrival."""

    protocol_version = "HTTP/1.1"
    received = queue.Queue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.put(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Says nothing."""


class Interop(unittest.TestCase):
    """One server, one endpoint, and what it is sent."""

    @classmethod
    def setUpClass(cls):
        cls.receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        cls.receiver.daemon_threads = True
        threading.Thread(target=cls.receiver.serve_forever, daemon=True).start()
        cls.addClassCleanup(cls.receiver.shutdown)

        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        data_dir = Path(directory.name) / "data"
        arguments = ["--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8", "--data-dir", str(data_dir)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("POSTRIDER_")}
        cls.server = subprocess.Popen(
            [BINARY, "serve", *arguments], stdout=subprocess.PIPE, cwd=directory.name, env=clean, text=True
        )
        cls.addClassCleanup(cls.stop)
        first_line = cls.server.stdout.readline()
        prefix = "listening on http://"
        assert first_line.startswith(prefix), f"the server said {first_line!r}"
        cls.address = first_line.removeprefix(prefix).strip()
        cls.token = (data_dir / "admin.token").read_text().strip()

        target = f"http://127.0.0.1:{cls.receiver.server_port}/hooks?a=b"
        endpoint = {"target": target, "events": [{"type": "vote.created"}]}
        cls.endpoint = cls.call(201, "endpoint/", endpoint)["id"]

    @classmethod
    def stop(cls):
        """Stops the server as an operator would."""
        cls.server.terminate()
        code = cls.server.wait(PATIENCE)
        cls.server.stdout.close()
        assert code == 0, f"the server ended with {code}"

    @classmethod
    def post(cls, path, body, method="POST"):
        """Sends bytes to the API; answers with the status and the bytes that came back."""
        connection = http.client.HTTPConnection(cls.address, timeout=PATIENCE)
        headers = {"Authorization": f"Bearer {cls.token}", "Content-Type": "application/json"}
        connection.request(method, f"/api/v2/webhook/{path}", body, headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        return response.status, answer

    @classmethod
    def call(cls, expected, path, body=None, method="POST"):
        """Sends JSON to the API, which has to answer with that status."""
        status, answer = cls.post(path, None if body is None else json.dumps(body), method)
        assert status == expected, f"{path} answered {status}: {answer!r}"
        return json.loads(answer, parse_float=str)

    def reveal(self):
        """The endpoint's signing secret."""
        return self.call(201, f"endpoint/{self.endpoint}/secret/reveal/")["signing_secret"]

    def publish(self):
        """Publishes the event; answers with what the receiver got, and with what it should have got."""
        status, answer = self.post("event/", b'{"type":"vote.created","data":' + DATA + b"}")
        self.assertEqual(status, 201, answer)
        event = json.loads(answer, parse_float=str)
        self.assertEqual(event["endpoint_count"], 1)
        head = '{"event_id":%d,"type":"vote.created","created":%s,"data":' % (event["event_id"], event["created"])
        headers, body = Receiver.received.get(timeout=PATIENCE)
        self.assertEqual(headers["webhook-id"], f"evt_{event['event_id']}")
        return headers, body, head.encode() + DATA + b"}"

    def verify(self, body, headers, secret):
        """Verifies both dialects with the libraries."""
        Webhook(secret).verify(body, headers)
        # The name of the header is ours, its form is theirs.
        header = headers["postrider-signature"]
        WebhookSignature.verify_header(body.decode(), header, secret, TOLERANCE)

    def refuse(self, body, headers, secret):
        """Both libraries refuse."""
        with self.assertRaises(WebhookVerificationError):
            Webhook(secret).verify(body, headers)
        with self.assertRaises(SignatureVerificationError):
            WebhookSignature.verify_header(body.decode(), headers["postrider-signature"], secret, TOLERANCE)

    def test_the_body_is_the_envelope_around_the_publishers_bytes(self):
        headers, body, expected = self.publish()
        self.assertEqual(body, expected)
        self.assertEqual(headers["content-type"], "application/json")
        self.assertLess(abs(int(headers["webhook-timestamp"]) - time.time()), TOLERANCE)

    def test_both_libraries_accept_the_right_secret_and_no_other(self):
        secret = self.reveal()
        headers, body, _ = self.publish()
        self.verify(body, headers, secret)
        self.refuse(body, headers, OTHER_SECRET)
        self.refuse(body.replace(b'"value": 1', b'"value": 2'), headers, secret)

    def test_both_libraries_accept_either_secret_during_a_grace_and_the_new_one_after(self):
        old = self.reveal()
        self.call(200, f"endpoint/{self.endpoint}/secret/expire/", {"grace_period": 3600})
        new = self.reveal()
        self.assertNotEqual(old, new)
        headers, body, _ = self.publish()
        self.verify(body, headers, new)
        self.verify(body, headers, old)

        self.call(200, f"endpoint/{self.endpoint}/secret/expire/", {"grace_period": 0})
        headers, body, _ = self.publish()
        self.verify(body, headers, self.reveal())
        self.refuse(body, headers, new)
        self.refuse(body, headers, old)

    def ask_for(self, *algorithms):
        """Has the endpoint sign by these."""
        self.call(200, f"endpoint/{self.endpoint}/", {"signature_algorithms": algorithms}, "PATCH")

    def public_key(self):
        """The endpoint's public key."""
        text = self.call(200, f"endpoint/{self.endpoint}/secret/public_key/", method="GET")["public_key"]
        self.assertTrue(text.startswith("whpk_"))
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text.removeprefix("whpk_"), validate=True))

    def test_another_library_accepts_the_ed25519_signature_beside_hmac_and_alone(self):
        self.addCleanup(self.ask_for, "hmac-sha256")
        for algorithms in [("hmac-sha256", "ed25519"), ("ed25519",)]:
            self.ask_for(*algorithms)
            headers, body, _ = self.publish()
            items = [item.split(",") for item in headers["webhook-signature"].split(" ")]
            versions = {"hmac-sha256": "v1", "ed25519": "v1a"}
            self.assertEqual([version for version, _ in items], [versions[name] for name in algorithms])
            signature = base64.b64decode(dict(items)["v1a"], validate=True)
            message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
            self.public_key().verify(signature, message)
            with self.assertRaises(InvalidSignature):
                self.public_key().verify(signature, message + b" ")
            if "hmac-sha256" in algorithms:
                self.verify(body, headers, self.reveal())
        self.call(200, f"endpoint/{self.endpoint}/secret/expire/")
        with self.assertRaises(InvalidSignature):
            self.public_key().verify(signature, message)


if __name__ == "__main__":
    unittest.main()
