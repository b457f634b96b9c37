# The hub. Built from the repository's root:
#   docker build -f docker/hub.Dockerfile -t lorikeet/hub .
# TORCH_INDEX chooses torch: the CPU build by default, .../whl/cu130 for a GPU, empty for what pip's
# own settings give. EXTRAS=hub leaves torch out; the hub can't train on public text then.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG EXTRAS=hub,train
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1 PIP_CACHE_DIR=/var/cache/pip
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN python3 -m venv /opt/lorikeet
RUN --mount=type=cache,target=/var/cache/pip \
    case ",${EXTRAS}," in *,train,*) \
      /opt/lorikeet/bin/pip install -c constraints.txt ${TORCH_INDEX:+--index-url ${TORCH_INDEX}} torch ;; \
    esac
COPY wire wire
COPY edge_agent edge_agent
COPY hub hub
RUN --mount=type=cache,target=/var/cache/pip \
    /opt/lorikeet/bin/pip install -c constraints.txt ".[${EXTRAS}]"
COPY docker/slim.sh /build/slim.sh
RUN sh /build/slim.sh /opt/lorikeet \
    && case ",${EXTRAS}," in *,train,*) /opt/lorikeet/bin/python3 -B -c 'import torch' ;; esac

FROM ${BASE}
LABEL org.opencontainers.image.title="Lorikeet hub" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/lorikeet /opt/lorikeet
RUN groupadd --gid 10001 lorikeet \
    && useradd --uid 10001 --gid 10001 --home-dir /state --no-create-home --shell /usr/sbin/nologin lorikeet \
    && mkdir -p /state /config && chown 10001:10001 /state
ENV PATH=/opt/lorikeet/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HOME=/state XDG_CACHE_HOME=/state/cache
USER 10001:10001
WORKDIR /state
VOLUME /state
EXPOSE 8080 8443
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=4 \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=5)"]
ENTRYPOINT ["lorikeet-hub"]
CMD ["serve", "--config", "/config/hub.yaml"]
