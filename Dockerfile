# The image of steward: docker build --tag steward .
#
# Both base images are arguments. They must be of the same Debian release, because the program is linked against the
# builder's glibc (OpenSSL, librdkafka, zlib and zstd are linked statically):
#   docker build --build-arg BUILDER=registry.example.org/rust:1-bookworm --build-arg RUNTIME=... .
ARG BUILDER=docker.io/library/rust:1-bookworm
ARG RUNTIME=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILDER} AS build
WORKDIR /build
# The dependencies first, with an empty program: this layer takes most of the time, and is rebuilt only when they change.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --profile dist --locked --features tls \
    && rm -r src
COPY config.toml ./
COPY src src
# Cargo compares modification times, and the copied files may be older than the empty ones.
# Packed relocations make the file 0.8 MB smaller; they need glibc 2.36, which bookworm has.
RUN find src -name '*.rs' -exec touch {} + \
    && cargo rustc --profile dist --locked --features tls --bin steward -- -C link-arg=-Wl,-z,pack-relative-relocs \
    && target/dist/steward --version

FROM ${RUNTIME}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="steward" \
      org.opencontainers.image.description="Owns the current state of every entity that a Kafka topic describes, exactly once" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /build/target/dist/steward /steward
# Every key with its default; mount another file over it, or override keys by variables.
COPY config.toml /etc/steward/config.toml
# A static OpenSSL has no path of this system's certificates.
ENV STEWARD_CONFIG=/etc/steward/config.toml \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
# A number, so that Kubernetes can check that it is not root.
USER 65532:65532
STOPSIGNAL SIGTERM
# For Docker and Compose; Kubernetes has probes of its own. The heartbeat begins when the topics were found.
HEALTHCHECK --interval=10s --timeout=5s --start-period=150s --retries=3 CMD ["/steward", "health", "live"]
ENTRYPOINT ["/steward"]
CMD ["run"]
