// npm install standardwebhooks stripe
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";
import Stripe from "stripe";

const secret = process.env.WEBHOOK_SECRET; // whsec_…, as the reveal operation shows it
const stripe = new Stripe("sk_unused"); // its webhook helpers need no account

const server = createServer(async (request, response) => {
  // The bytes as they came: parse them only after they have been verified.
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString("utf8");
  try {
    // One of the two is enough.
    new Webhook(secret).verify(body, request.headers);
    stripe.webhooks.signature.verifyHeader(body, request.headers["postrider-signature"], secret, 300);
    console.log("verified:", request.headers["webhook-id"], body);
    response.writeHead(204).end();
  } catch (error) {
    console.log("refused:", error.message);
    response.writeHead(400).end();
  }
});
server.listen(Number(process.env.PORT ?? 9000), "127.0.0.1", () => {
  console.log("listening on", server.address().port);
});
