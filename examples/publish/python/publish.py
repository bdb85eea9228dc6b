"""Publishes one push straight to Clarion's queue: confirmed, mandatory, persistent.

Exits with 0 when the broker has confirmed the request and did not return it, with 1 otherwise.
"""

import argparse
import json
import os
import sys
import time
import uuid

import pika
from pika.exceptions import AMQPError, NackError, UnroutableError

ATTEMPTS_MAX = 5
# AMQP's delivery mode of messages that survive a restart of the broker.
PERSISTENT = 2
FIRST_PAUSE_SECONDS = 0.5


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    url = os.environ.get("AMQP_URL", "amqp://guest:guest@localhost:5672/%2F")
    parser.add_argument("--url", default=url, help="the broker (AMQP_URL)")
    parser.add_argument("--exchange", default="clarion.publish", help="where the deployment has another prefix")
    parser.add_argument("--tenant", required=True, help="whose push it is")
    parser.add_argument("--lane", default="transactional", choices=["transactional", "bulk"])
    parser.add_argument("--user", required=True, action="append", help="whose devices; may be repeated")
    parser.add_argument("--title", default="Hello")
    parser.add_argument("--message-id", default=str(uuid.uuid4()), help="your own id of this push")
    parser.add_argument("--api-key", default=os.environ.get("CLARION_API_KEY"), help="where one is asked for")
    return parser.parse_args()


def publish_once(asked, body):
    """Returns when the broker has the request; raises otherwise."""
    parameters = pika.URLParameters(asked.url)
    parameters.client_properties = {"connection_name": "publish.py"}
    # A broker that is short of memory or disk blocks its publishers.
    parameters.blocked_connection_timeout = 10
    connection = pika.BlockingConnection(parameters)
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(
            exchange=asked.exchange,
            routing_key=f"{asked.tenant}.{asked.lane}",
            body=body,
            properties=pika.BasicProperties(
                content_type="application/json",
                delivery_mode=PERSISTENT,
                message_id=asked.message_id,
                headers={"x-api-key": asked.api_key} if asked.api_key else None,
            ),
            mandatory=True,
        )
    finally:
        if connection.is_open:
            connection.close()


def main():
    asked = arguments()
    request = {
        "v": 1,
        "message_id": asked.message_id,
        "user_ids": asked.user,
        "alert": {"title": asked.title},
    }
    # Once: a repetition sends the very same bytes, and is taken once.
    body = json.dumps(request).encode()
    pause = FIRST_PAUSE_SECONDS
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            publish_once(asked, body)
            print(f"confirmed {asked.message_id}")
            return 0
        except UnroutableError:
            # No queue is behind the exchange: nobody has the message.
            print("returned: no queue is behind the exchange; has an engine been started?", file=sys.stderr)
            return 1
        except NackError:
            # The queue is full: the broker did not take it.
            print(f"refused, attempt {attempt}", file=sys.stderr)
        except (AMQPError, OSError) as error:
            # It may or may not have been taken: the same message id makes a repetition safe.
            print(f"no answer, attempt {attempt}: {error!r}", file=sys.stderr)
        if attempt < ATTEMPTS_MAX:
            time.sleep(pause)
            pause *= 2
    return 1


if __name__ == "__main__":
    sys.exit(main())
