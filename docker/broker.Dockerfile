# mosquitto with the configuration that lorikeet-hub broker-config makes:
#   docker build -f docker/broker.Dockerfile -t lorikeet/broker .
#   lorikeet-hub broker-config --config hub.yaml --out broker --folder /broker
#   chown -R 10001:10001 broker     # its key, its log and its data are its own
#   docker run -v ./broker:/broker -p 8883:8883 lorikeet/broker
# Debian's 2.0.11 by default; give a base that has a later one, 2.1 or newer is better
# (its database survives kill -9):  --build-arg BASE=eclipse-mosquitto:2.1 --build-arg INSTALL=
ARG BASE=debian:bookworm-slim
FROM ${BASE}
ARG INSTALL="mosquitto ca-certificates"
LABEL org.opencontainers.image.title="Lorikeet broker" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN if [ -n "${INSTALL}" ]; then \
      apt-get update -qq \
      && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ${INSTALL} \
      && rm -rf /var/lib/apt/lists/* /var/cache/apt/*; \
    fi
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 10001:10001
EXPOSE 8883 8884
COPY docker/lorikeet-broker /usr/local/bin/lorikeet-broker
ENTRYPOINT ["lorikeet-broker"]
CMD ["/broker"]
