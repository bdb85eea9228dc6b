//! A private PostgreSQL server. It must not know what is stored in it.
