# One image holds every service: the compose file says which one a container is.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# Built apart: `loadgen` can make the services in itself fail, the services' own binaries cannot.
RUN cargo build --release --locked -p driver -p rider -p location -p trip \
 && mkdir /out && cp target/release/driver target/release/rider target/release/location \
    target/release/trip /out/ \
 && cargo build --release --locked -p loadgen && cp target/release/loadgen /out/

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/ride ride
COPY --from=build /out/ /usr/local/bin/
USER ride
WORKDIR /var/lib/ride
