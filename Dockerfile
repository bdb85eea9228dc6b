# Clarion's image: built from the lock file, run as nobody in particular, nothing in it but the binary.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --profile dist --locked --bin clarion && cp target/dist/clarion /clarion

FROM debian:bookworm-slim
RUN useradd --uid 10001 --home-dir /data --create-home --shell /usr/sbin/nologin clarion
COPY --from=build /clarion /usr/local/bin/clarion
USER 10001
WORKDIR /data
VOLUME /data
ENV CLARION__DATA_DIR=/data \
    CLARION__SERVER__LISTEN=0.0.0.0:8080 \
    CLARION__SERVER__ADMIN_LISTEN=0.0.0.0:9090 \
    CLARION__LOG__FORMAT=json
EXPOSE 8080 9090
# The operator's listener answers in every role.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["clarion", "healthcheck", "--url", "http://127.0.0.1:9090"]
ENTRYPOINT ["clarion"]
CMD ["serve"]
