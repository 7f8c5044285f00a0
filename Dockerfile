# One image holds every service: the compose file says which one a container is.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p driver -p rider -p location -p trip -p loadgen

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/ride ride
COPY --from=build /src/target/release/driver /src/target/release/rider \
     /src/target/release/location /src/target/release/trip \
     /src/target/release/loadgen /usr/local/bin/
USER ride
WORKDIR /var/lib/ride
