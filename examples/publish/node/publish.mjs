// Publishes one push straight to Clarion's queue: confirmed, mandatory, persistent.
// Exits with 0 when the broker has confirmed the request and did not return it, with 1 otherwise.

import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";

import amqp from "amqplib";

const ATTEMPTS_MAX = 5;
const FIRST_PAUSE_MILLIS = 500;
const CONFIRM_MILLIS_MAX = 10_000;

class Returned extends Error {}
class Refused extends Error {}

const { values: asked } = parseArgs({
  options: {
    url: { type: "string", default: process.env.AMQP_URL ?? "amqp://guest:guest@localhost:5672/%2F" },
    exchange: { type: "string", default: "clarion.publish" },
    tenant: { type: "string" },
    lane: { type: "string", default: "transactional" },
    user: { type: "string", multiple: true },
    title: { type: "string", default: "Hello" },
    "message-id": { type: "string", default: randomUUID() },
    "api-key": { type: "string", default: process.env.CLARION_API_KEY },
  },
});
if (!asked.tenant || !asked.user || !["transactional", "bulk"].includes(asked.lane)) {
  console.error("usage: publish.mjs --tenant ID --user ID [--user ID …] [--lane transactional|bulk] [--title TEXT]");
  console.error("                   [--message-id ID] [--api-key KEY] [--url amqp://…] [--exchange NAME]");
  process.exit(2);
}

/** Resolves when the broker has the request; rejects otherwise. */
async function publishOnce(body) {
  const connection = await amqp.connect(asked.url, {
    clientProperties: { connection_name: "publish.mjs" },
  });
  try {
    const channel = await connection.createConfirmChannel();
    await new Promise((resolve, reject) => {
      // A broker that is short of memory or disk blocks its publishers, and a lost connection confirms nothing.
      const timer = setTimeout(() => reject(new Error("no confirm in time")), CONFIRM_MILLIS_MAX);
      const settle = (how, value) => {
        clearTimeout(timer);
        how(value);
      };
      connection.on("error", (error) => settle(reject, error));
      connection.on("close", () => settle(reject, new Error("the connection was closed")));
      channel.on("error", (error) => settle(reject, error));
      // The broker returns what it cannot route before it confirms it.
      channel.on("return", () => settle(reject, new Returned()));
      channel.publish(
        asked.exchange,
        `${asked.tenant}.${asked.lane}`,
        body,
        {
          contentType: "application/json",
          persistent: true,
          mandatory: true,
          messageId: asked["message-id"],
          headers: asked["api-key"] ? { "x-api-key": asked["api-key"] } : {},
        },
        (nacked) => (nacked ? settle(reject, new Refused()) : settle(resolve)),
      );
    });
  } finally {
    connection.removeAllListeners("close");
    await connection.close().catch(() => {});
  }
}

const request = {
  v: 1,
  message_id: asked["message-id"],
  user_ids: asked.user,
  alert: { title: asked.title },
};
// Once: a repetition sends the very same bytes, and is taken once.
const body = Buffer.from(JSON.stringify(request));

async function main() {
  let millis = FIRST_PAUSE_MILLIS;
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    try {
      await publishOnce(body);
      console.log(`confirmed ${asked["message-id"]}`);
      return 0;
    } catch (error) {
      if (error instanceof Returned) {
        // No queue is behind the exchange: nobody has the message.
        console.error("returned: no queue is behind the exchange; has an engine been started?");
        return 1;
      }
      // Refused: the queue is full. Otherwise it may or may not have been taken, and the same message id makes a
      // repetition safe.
      const what = error instanceof Refused ? "refused" : `no answer (${error.message})`;
      console.error(`${what}, attempt ${attempt}`);
    }
    if (attempt < ATTEMPTS_MAX) {
      await pause(millis);
      millis *= 2;
    }
  }
  return 1;
}

process.exitCode = await main();
