//! A private RabbitMQ server. It must not know what is queued in it.
