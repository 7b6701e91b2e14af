# pip install standardwebhooks stripe
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

import stripe
from standardwebhooks import Webhook

SECRET = os.environ["WEBHOOK_SECRET"]  # whsec_…, as the reveal operation shows it


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        # The bytes as they came: parse them only after they have been verified.
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            # One of the two is enough.
            Webhook(SECRET).verify(body, {name.lower(): value for name, value in self.headers.items()})
            stripe.WebhookSignature.verify_header(
                body.decode(), self.headers["Postrider-Signature"], SECRET, tolerance=300
            )
        except Exception as error:
            print("refused:", error, flush=True)
            self.send_response(400)
        else:
            print("verified:", self.headers["webhook-id"], body.decode(), flush=True)
            self.send_response(204)
        self.end_headers()


server = HTTPServer(("127.0.0.1", int(os.environ.get("PORT", "9000"))), Receiver)
print("listening on", server.server_port, flush=True)
server.serve_forever()
